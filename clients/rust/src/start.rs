//! Starts a service if none serves.

use std::ffi::{OsStr, OsString};
use std::future::IntoFuture;
use std::io;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use tokio::io::AsyncReadExt as _;
use tokio::process::{Child, Command};
use tokio::time::timeout;
use tonic::Code;

use crate::address;
use crate::builder::{ClientBuilder, Place, endpoint};
use crate::client::{BoxFuture, Client};
use crate::error::{Error, Reason};
use crate::health;

/// The environment variable with the program that starts a service.
pub const PROGRAM_VARIABLE: &str = "POOL_SERVICE_PROGRAM";

const PROGRAM: &str = "pool-service";
const TIMEOUT: Duration = Duration::from_secs(30);
/// How much longer than its limit the program may take: its own message says more.
const KILL_DELAY: Duration = Duration::from_secs(5);
/// How long a program that was killed may take to be gone, with what it wrote last.
const END_TIMEOUT: Duration = Duration::from_secs(5);
/// How many of the last lines of a failed program its error shows.
const SHOWN_LINES: usize = 10;

/// A client whose service is started if none serves; see [`Client::connect_or_start`].
#[derive(Clone, Debug)]
#[must_use = "nothing is started before it is awaited"]
pub struct ConnectOrStart {
    builder: ClientBuilder,
    program: Option<OsString>,
    arguments: Vec<OsString>,
    timeout: Duration,
}

impl ConnectOrStart {
    pub(crate) fn new(builder: ClientBuilder) -> Self {
        Self { builder, program: None, arguments: Vec::new(), timeout: TIMEOUT }
    }

    /// The program to run; by default `POOL_SERVICE_PROGRAM`, else `pool-service` on `PATH`.
    pub fn program(mut self, program: impl Into<OsString>) -> Self {
        self.program = Some(program.into());
        self
    }

    /// Arguments for `pool-service start`, such as `["--config", "pool.toml"]`. They follow
    /// `--timeout`, which the client gives, so that yours counts.
    pub fn arguments<A: Into<OsString>>(mut self, arguments: impl IntoIterator<Item = A>) -> Self {
        self.arguments.extend(arguments.into_iter().map(Into::into));
        self
    }

    /// How long the start of a service may take, 30 seconds by default. The program is told so by
    /// `--timeout`, and is killed if it has not ended 5 seconds later.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    async fn connect(self, place: Place, variable: Option<OsString>) -> Result<Client, Error> {
        let home = place.home.as_deref();
        let target = match self.builder.named(&place)? {
            Some(target) => target,
            None => match serving(&place).await {
                Some(target) => target,
                None => address::target(&self.start(variable).await?, home)?,
            },
        };
        self.builder.connect_to(target, home)
    }

    /// Runs the program to its end; returns the address that it printed.
    async fn start(&self, variable: Option<OsString>) -> Result<String, Error> {
        let named = [self.program.clone(), variable].into_iter().flatten();
        let named = named.into_iter().find(|program| !program.is_empty());
        let program = named.as_deref().unwrap_or(OsStr::new(PROGRAM));
        let command = format!("{} start", program.display());
        let spawned = Command::new(program)
            .args(["start", "--timeout", &format!("{}s", self.timeout.as_secs_f64())])
            .args(&self.arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut run = match spawned {
            Ok(child) => Run { child, printed: Vec::new(), said: Vec::new() },
            Err(error) => return Err(not_run(program, &error)),
        };
        let limit = self.timeout.saturating_add(KILL_DELAY);
        let why = match timeout(limit, run.end()).await {
            Ok(Ok(status)) if status.success() => match run.address() {
                Some(address) => return Ok(address),
                None => "it printed no address".to_owned(),
            },
            Ok(Ok(status)) => format!("it failed ({status})"),
            Ok(Err(error)) => format!("its end is not known ({error})"),
            Err(_) => {
                run.kill().await;
                format!("it did not end within {limit:?}, and was killed")
            }
        };
        let shown = run.shown();
        let remedy = if shown.is_empty() { "run it in a terminal" } else { "correct what it says" };
        let colon = if shown.is_empty() { "" } else { ":" };
        let message = format!(
            "`{command}` has started no pool service: {why}; \
             {remedy}, or start one yourself{colon}{shown}"
        );
        Err(not_started(message))
    }
}

impl IntoFuture for ConnectOrStart {
    type Output = Result<Client, Error>;
    type IntoFuture = BoxFuture<'static, Self::Output>;

    /// # Panics
    /// When it is awaited outside a tokio runtime with I/O and time.
    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.connect(Place::of_process(), std::env::var_os(PROGRAM_VARIABLE)))
    }
}

/// The address of your own service, if it serves. One that listens may be ending, or starting.
async fn serving(place: &Place) -> Option<String> {
    let target = place.own_socket()?;
    let channel = endpoint(&target, None).ok()?.connect_lazy();
    health::is_serving(channel).await.then_some(target)
}

/// A program that runs, and what it has written so far.
struct Run {
    child: Child,
    printed: Vec<u8>,
    said: Vec<u8>,
}

impl Run {
    /// Reads what the program writes, until it has ended.
    async fn end(&mut self) -> io::Result<ExitStatus> {
        let Self { child, printed, said } = self;
        let (mut stdout, mut stderr) = (child.stdout.take(), child.stderr.take());
        let reading = async {
            if let Some(stdout) = &mut stdout {
                stdout.read_to_end(printed).await?;
            }
            io::Result::Ok(())
        };
        let listening = async {
            if let Some(stderr) = &mut stderr {
                stderr.read_to_end(said).await?;
            }
            io::Result::Ok(())
        };
        let (printed, said, status) = tokio::join!(reading, listening, child.wait());
        printed.and(said).and(status)
    }

    async fn kill(&mut self) {
        let _ = self.child.start_kill();
        let _ = timeout(END_TIMEOUT, self.child.wait()).await;
    }

    /// The only line of stdout, if that is an address.
    fn address(&self) -> Option<String> {
        let line = std::str::from_utf8(&self.printed).ok()?.trim_end();
        address::target(line, None).ok()
    }

    /// The last lines of stderr, each on a line of its own.
    fn shown(&self) -> String {
        let said = String::from_utf8_lossy(&self.said);
        let lines: Vec<_> = said.lines().filter(|line| !line.trim().is_empty()).collect();
        let last = &lines[lines.len().saturating_sub(SHOWN_LINES)..];
        last.iter().map(|line| format!("\n  {line}")).collect::<Vec<_>>().concat()
    }
}

fn not_run(program: &OsStr, error: &io::Error) -> Error {
    let remedy = format!("install it (docs/how-to/install.md), or name it in {PROGRAM_VARIABLE}");
    let is_path = program.as_encoded_bytes().contains(&b'/');
    let program = program.display();
    not_started(match error.kind() {
        io::ErrorKind::NotFound if is_path => format!("{program} was not found: {remedy}"),
        io::ErrorKind::NotFound => format!("{program} was not found on PATH: {remedy}"),
        _ => format!("{program} cannot be run ({error}): {remedy}"),
    })
}

fn not_started(message: String) -> Error {
    Error::plain(Reason::ServiceNotStarted, Code::Unavailable, message)
}

#[cfg(test)]
mod tests {
    use std::fs::{DirBuilder, File};
    use std::io::{BufRead as _, BufReader, Read as _};
    use std::os::unix::fs::DirBuilderExt as _;
    use std::os::unix::net::UnixListener;
    use std::path::{Path, PathBuf};

    use tokio::task::spawn_blocking;
    use tokio::time::{Instant, sleep};
    use tonic::Status;

    use super::*;
    use crate::health::tests::serve;
    use crate::token_file::tests::Folder;

    /// A start of a program that runs that script.
    fn starting(script: &str) -> ConnectOrStart {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/pool-service");
        Client::connect_or_start().program(program).arguments([script])
    }

    async fn started(call: ConnectOrStart) -> Result<Client, Error> {
        call.connect(Place::default(), None).await
    }

    async fn failed(call: ConnectOrStart) -> String {
        let error = started(call).await.expect_err("there is no service");
        assert_eq!((error.reason(), error.code()), (Reason::ServiceNotStarted, Code::Unavailable));
        assert_eq!((error.reason_name(), error.retry_after()), ("", None));
        error.to_string()
    }

    /// A pipe that a script opens by its name.
    fn fifo(folder: &Folder) -> PathBuf {
        let path = folder.path().join("fifo");
        let made = std::process::Command::new("mkfifo").arg(&path).status().expect("it runs");
        assert!(made.success());
        path
    }

    /// Waits for a line of a script; returns the pipe, which ends with the script.
    async fn line_of(path: PathBuf) -> BufReader<File> {
        let read = move || {
            let mut pipe = BufReader::new(File::open(path).expect("it is there"));
            pipe.read_line(&mut String::new()).expect("it is text");
            pipe
        };
        spawn_blocking(read).await.expect("no panic")
    }

    async fn ended(mut pipe: BufReader<File>) {
        let read = move || pipe.read_to_end(&mut Vec::new()).expect("it ends");
        assert_eq!(spawn_blocking(read).await.expect("no panic"), 0);
    }

    #[tokio::test]
    async fn it_connects_to_the_address_that_the_program_prints() {
        for address in ["unix:/run/pool-service/socket", "127.0.0.1:1234"] {
            let script = format!("echo starting >&2; echo {address}");
            let client = started(starting(&script)).await.expect("it is started");
            assert_eq!(&*client.address, address);
        }
    }

    #[tokio::test]
    async fn the_program_gets_its_arguments_and_no_input() {
        let script = r#"read -r line || echo "127.0.0.1:$5$6""#;
        let client = started(starting(script).arguments(["12", "34"])).await;
        assert_eq!(&*client.expect("it is started").address, "127.0.0.1:1234");
    }

    #[tokio::test]
    async fn a_service_that_is_named_is_not_started() {
        let place = || Place { address: Some("there:1".into()), ..Place::default() };
        let client = starting("exit 1").connect(place(), None).await.expect("it is named");
        assert_eq!(&*client.address, "there:1");
        let given = Client::builder().address("here:1").connect_or_start().program("/nowhere");
        let client = given.connect(place(), None).await.expect("it is named");
        assert_eq!(&*client.address, "here:1");
    }

    #[tokio::test]
    async fn the_program_is_told_its_limit_before_the_arguments() {
        let script = r#"echo "$1 $2 $3 $5" >&2; exit 1"#;
        let call = starting(script).arguments(["mine"]);
        let millis = Duration::from_millis;
        for (timeout, told) in [
            (millis(300), "0.3s"),
            (millis(90_500), "90.5s"),
            (Duration::MAX, "18446744073709552000s"),
        ] {
            let message = failed(call.clone().timeout(timeout)).await;
            let expected = format!("\n  start --timeout {told} mine");
            assert!(message.ends_with(&expected), "{message}");
        }
        let message = failed(call).await;
        assert!(message.ends_with("\n  start --timeout 30s mine"), "{message}");
    }

    /// A place whose default socket is in the folder, and that socket.
    fn place_in(folder: &Folder) -> (Place, PathBuf) {
        let directory = folder.path().join("pool-service");
        DirBuilder::new().mode(0o700).create(&directory).expect("it is new");
        let place = Place { runtime: Some(folder.path().into()), ..Place::default() };
        (place, directory.join("socket"))
    }

    #[tokio::test]
    async fn a_service_of_your_own_that_serves_is_not_started() {
        let folder = Folder::new();
        let (place, socket) = place_in(&folder);
        serve(&socket, Ok(1));
        let client = starting("exit 1").connect(place, None).await.expect("it serves");
        assert_eq!(*client.address, format!("unix:{}", socket.display()));
    }

    #[tokio::test]
    async fn where_nobody_listens_at_your_socket_a_service_is_started() {
        let folder = Folder::new();
        let (place, socket) = place_in(&folder);
        drop(UnixListener::bind(&socket).expect("it is free"));
        let client = starting("echo there:1").connect(place, None).await.expect("it is started");
        assert_eq!(&*client.address, "there:1");
    }

    #[tokio::test]
    async fn a_service_of_your_own_that_listens_but_does_not_serve_is_no_service() {
        for said in [
            Ok(0),
            Ok(2),
            Err(Status::unimplemented("")),
            Err(Status::unavailable("")),
            Err(Status::not_found("")),
        ] {
            let folder = Folder::new();
            let (place, socket) = place_in(&folder);
            serve(&socket, said);
            let began = Instant::now();
            let client = starting("echo there:1").connect(place, None).await;
            assert_eq!(&*client.expect("it is started").address, "there:1");
            assert!(began.elapsed() < Duration::from_secs(2));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_service_of_your_own_that_says_nothing_for_two_seconds_is_no_service() {
        let folder = Folder::new();
        let (place, socket) = place_in(&folder);
        let _listener = UnixListener::bind(&socket).expect("it is free");
        let call = starting("echo there:1").connect(place, None);
        // The program runs in time that passes.
        let nearly_late = async {
            sleep(Duration::from_millis(1990)).await;
            tokio::time::resume();
        };
        let began = Instant::now();
        let (client, ()) = tokio::join!(call, nearly_late);
        assert_eq!(&*client.expect("it is started").address, "there:1");
        assert!(began.elapsed() >= Duration::from_secs(2));
    }

    #[tokio::test]
    async fn the_program_that_is_given_goes_before_the_variable() {
        let given = starting("echo there:1");
        let variable = || given.program.clone();
        let unnamed = ConnectOrStart { program: None, ..given.clone() };
        for call in [unnamed, given.clone().program("")] {
            call.connect(Place::default(), variable()).await.expect("the variable names it");
        }
        let nowhere = Some("/nowhere".into());
        given.connect(Place::default(), nowhere).await.expect("it is given");
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named_with_what_to_do() {
        let remedy = "install it (docs/how-to/install.md), or name it in POOL_SERVICE_PROGRAM";
        for (program, found) in [
            ("no-pool-service", "no-pool-service was not found on PATH"),
            ("/no/pool-service", "/no/pool-service was not found"),
            ("/", "/ cannot be run (Permission denied (os error 13))"),
        ] {
            let message = failed(starting("").program(program)).await;
            assert_eq!(message, format!("{found}: {remedy}"));
        }
    }

    #[tokio::test]
    async fn a_program_that_fails_is_shown_with_its_last_lines() {
        let script = "for n in $(seq 12); do echo line $n >&2; done; echo there:1; exit 3";
        let message = failed(starting(script)).await;
        let (first, lines) = message.split_once('\n').expect("it has lines");
        let expected = "tests/pool-service start` has started no pool service: it failed \
                        (exit status: 3); correct what it says, or start one yourself:";
        assert!(first.ends_with(expected), "{first}");
        let expected: Vec<_> = (3..=12).map(|number| format!("  line {number}")).collect();
        assert_eq!(lines, expected.join("\n"));
    }

    #[tokio::test]
    async fn a_program_that_prints_no_address_has_started_nothing() {
        for script in ["true", "echo hello", "echo there:1; echo there:2", r"printf '\377'"] {
            let message = failed(starting(script)).await;
            let expected = "it printed no address; run it in a terminal, or start one yourself";
            assert!(message.ends_with(expected), "{message}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_program_that_takes_too_long_is_killed() {
        for (timeout, limit) in [(TIMEOUT, "35s"), (Duration::from_millis(300), "5.3s")] {
            let folder = Folder::new();
            let path = fifo(&folder);
            let script =
                format!("echo loading >&2; exec 3>{}; echo >&3; exec sleep 600", path.display());
            let call = starting(&script).timeout(timeout);
            let (message, pipe) = tokio::join!(failed(call), line_of(path));
            let expected = format!(
                "it did not end within {limit}, and was killed; \
                 correct what it says, or start one yourself:\n  loading"
            );
            assert!(message.ends_with(&expected), "{message}");
            ended(pipe).await;
        }
    }

    #[tokio::test]
    async fn a_start_that_is_given_up_kills_the_program() {
        let folder = Folder::new();
        let path = fifo(&folder);
        let script = format!("exec 3>{}; echo >&3; exec sleep 600", path.display());
        let starting = tokio::spawn(started(starting(&script)));
        let pipe = line_of(path).await;
        starting.abort();
        ended(pipe).await;
    }
}
