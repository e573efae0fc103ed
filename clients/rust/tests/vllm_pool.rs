//! The drop-in for a pool in your own process, with a real service and a stand-in for its runtime.
//!
//! The variable `POOL_SERVICE_TEST_PROGRAM` names the program of the service; `make test` sets it.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use pool_service_client::Client;
use pool_service_client::vllm_pool::VllmServerPool;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};

const PROGRAM_VARIABLE: &str = "POOL_SERVICE_TEST_PROGRAM";
/// Longer than any test: only a test itself stops a server.
const HOUR: Duration = Duration::from_secs(3600);

/// A program that answers every GET with 200.
const STAND_IN: &str = r#"
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

class Answers(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(self.path.encode())

HTTPServer(("127.0.0.1", int(sys.argv[-1])), Answers).serve_forever()
"#;

/// A service that runs for as long as this exists.
struct Service {
    process: Child,
    address: String,
    _directory: Directory,
}

impl Service {
    /// `None` where the program of the service is not named, but never in CI.
    fn new(name: &str) -> Option<Self> {
        let Some(program) = std::env::var_os(PROGRAM_VARIABLE).filter(|path| !path.is_empty())
        else {
            let is_in_ci = std::env::var_os("CI").is_some_and(|value| !value.is_empty());
            assert!(!is_in_ci, "CI has to run this: name the program in {PROGRAM_VARIABLE}");
            eprintln!("skipped: {PROGRAM_VARIABLE} does not name the program pool-service");
            return None;
        };
        let directory = Directory::new(name);
        let (stand_in, config) = (directory.0.join("stand_in.py"), directory.0.join("pool.toml"));
        fs::write(&stand_in, STAND_IN).expect("there is room");
        let python = Path::new(&program).with_file_name("python");
        let said = format!(
            "[runtime]\ncommand = ['{}', '{}', 'serve', '{{runtime_model}}', '{{port}}']\n\
             [defaults]\ngrace_period = '1h'\n",
            python.display(),
            stand_in.display()
        );
        fs::write(&config, said).expect("there is room");
        let log = fs::File::create(directory.0.join("log")).expect("there is room");
        let mut process = Command::new(program)
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&config)
            .arg("--state-dir")
            .arg(directory.0.join("state"))
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("it runs");
        let mut line = String::new();
        let stdout = process.stdout.take().expect("it is a pipe");
        BufReader::new(stdout).read_line(&mut line).expect("it is text");
        let address = line.trim_end().strip_prefix("listening on ").map(str::to_owned);
        let address = address.unwrap_or_else(|| panic!("{}", directory.log()));
        Some(Self { process, address, _directory: directory })
    }

    fn client(&self) -> Client {
        Client::builder().address(&*self.address).connect().expect("it is an address")
    }

    fn pool(&self, idle_ttl: Duration) -> VllmServerPool {
        let connecting = Client::builder().address(&*self.address).connect_or_start();
        VllmServerPool::new(idle_ttl).with_service(connecting)
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = kill_process(pid(self.process.id()), Signal::TERM);
        let _ = self.process.wait();
    }
}

struct Directory(PathBuf);

impl Directory {
    fn new(name: &str) -> Self {
        let path = std::env::temp_dir().join(format!("pool-{}-{name}", std::process::id()));
        fs::create_dir(&path).expect("it is new");
        Self(path)
    }

    fn log(&self) -> String {
        fs::read_to_string(self.0.join("log")).unwrap_or_default()
    }
}

impl Drop for Directory {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

fn pid(number: u32) -> Pid {
    Pid::from_raw(number.cast_signed()).expect("it is over 0")
}

/// What the endpoint answers to a GET of this path.
fn get(endpoint: &str, path: &str) -> String {
    let address = endpoint.strip_prefix("http://").expect("it is a URL");
    let mut connection = TcpStream::connect(address).expect("it listens");
    write!(connection, "GET {path} HTTP/1.0\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("it is text");
    answer
}

#[tokio::test]
async fn two_models_have_ports_of_their_own() {
    let Some(service) = Service::new("ports") else { return };
    let pool = service.pool(HOUR);
    let first = pool.ensure("one", "org/one").await.expect("it starts");
    let second = pool.ensure("two", "org/two").await.expect("it starts");
    assert_ne!(first, second);
    for endpoint in [&first, &second] {
        let (_, port) = endpoint.rsplit_once(':').expect("it has a port");
        assert_ne!(port.parse::<u16>().expect("it is a number"), 0);
    }
    assert_eq!(pool.ensure("one", "org/one").await, Ok(first));
    assert_eq!((pool.len().await, pool.is_empty().await), (2, false));
}

#[tokio::test]
async fn an_empty_pool_evicts_none() {
    let pool = VllmServerPool::new(Duration::from_secs(300));
    assert_eq!((pool.evict_idle().await, pool.len().await), (0, 0));

    let Some(service) = Service::new("empty") else { return };
    service.client().ensure("of another caller").await.expect("it starts");
    let pool = service.pool(Duration::ZERO);
    assert_eq!((pool.evict_idle().await, pool.len().await), (0, 0));
    assert_eq!(service.client().list().await.expect("they are listed").len(), 1);
}

#[tokio::test]
async fn a_stand_in_is_spawned_waited_for_and_torn_down() {
    let Some(service) = Service::new("stand-in") else { return };
    let pool = service.pool(Duration::ZERO);
    let endpoint = pool.ensure("dummy", "org/dummy").await.expect("it starts");
    let answer = get(&endpoint, "/any/path");
    assert!(answer.contains(" 200 ") && answer.ends_with("/any/path"), "{answer}");
    let found = service.client().get("dummy").check(true).await.expect("it is looked up");
    assert!(found.answers);
    let process = pid(found.server.expect("there is one").pid);
    test_kill_process(process).expect("it runs");

    assert_eq!((pool.evict_idle().await, pool.len().await), (1, 0));
    test_kill_process(process).expect_err("it is gone");
    assert_eq!(pool.evict_idle().await, 0);
}
