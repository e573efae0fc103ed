//! The address of the service.

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::error::Error;

/// The environment variable with the service's address.
pub const ADDRESS_VARIABLE: &str = "POOL_SERVICE_ADDRESS";

/// The TCP address on which a service listens by default.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

const UNIX: &str = "unix:";

/// The address that is named: the given one, else the environment's; `None` if there is none.
pub(crate) fn named(
    given: Option<&str>,
    environment: Option<&str>,
    home: Option<&Path>,
) -> Result<Option<String>, Error> {
    let said = [given, environment].into_iter().flatten().find(|address| !address.is_empty());
    said.map(|address| target(address, home)).transpose()
}

/// The address as it is dialled: `~` is replaced by the home directory.
pub(crate) fn target(address: &str, home: Option<&Path>) -> Result<String, Error> {
    if address.chars().any(char::is_control) {
        return Err(not_an_address(address));
    }
    if let Some(rest) = address.strip_prefix(UNIX) {
        return socket_path(address, rest.strip_prefix("//").unwrap_or(rest), home);
    }
    let several: Vec<&str> = address.split(',').map(str::trim).collect();
    let are_valid = several.iter().all(|one| is_host_and_port(one));
    if are_valid { Ok(several.join(",")) } else { Err(not_an_address(address)) }
}

/// Each address of the target, in the order in which they are called.
pub(crate) fn each_of(target: &str) -> impl Iterator<Item = &str> {
    let is_path = target.starts_with(UNIX);
    target.split(move |letter| letter == ',' && !is_path)
}

/// The target of tonic's connection to one address.
pub(crate) fn uri(target: &str, is_encrypted: bool) -> String {
    let scheme = if is_encrypted { "https" } else { "http" };
    if target.starts_with(UNIX) { target.to_owned() } else { format!("{scheme}://{target}") }
}

/// The host of one address, without brackets; `None` for a socket.
pub(crate) fn host(target: &str) -> Option<&str> {
    let (host, _) = target.rsplit_once(':').filter(|_| !target.starts_with(UNIX))?;
    Some(host.trim_start_matches('[').trim_end_matches(']'))
}

pub(crate) fn not_an_address(address: &str) -> Error {
    Error::invalid(
        "address",
        format!(
            "{address:?} is no address of a pool service: write host:port or unix:PATH, or several \
             host:port with commas"
        ),
    )
}

fn socket_path(address: &str, path: &str, home: Option<&Path>) -> Result<String, Error> {
    if path.is_empty() {
        return Err(not_an_address(address));
    }
    let path = with_home(Path::new(path), home);
    path.as_deref().and_then(Path::to_str).map(|path| format!("{UNIX}{path}")).ok_or_else(|| {
        Error::invalid("address", format!("{address:?} names a home directory that is not known"))
    })
}

/// Replaces `~` by the home directory, as the service does; `None` if that is not known.
pub(crate) fn with_home(path: &Path, home: Option<&Path>) -> Option<PathBuf> {
    match path.strip_prefix("~") {
        Ok(below) => home.map(|home| home.join(below)),
        Err(_) if path.as_os_str().as_encoded_bytes().starts_with(b"~") => None,
        Err(_) => Some(path.to_owned()),
    }
}

/// Whether what is sent to the target, or to each of several addresses, stays on this machine. A
/// host name other than localhost counts as another machine's.
pub(crate) fn is_this_machine(target: &str) -> bool {
    each_of(target).all(|one| host(one).is_none_or(is_loopback))
}

fn is_loopback(host: &str) -> bool {
    match host.parse::<IpAddr>() {
        Ok(ip) => ip.is_loopback(),
        Err(_) => host.eq_ignore_ascii_case("localhost"),
    }
}

fn is_host_and_port(address: &str) -> bool {
    let Some((host, port)) = address.rsplit_once(':') else {
        return false;
    };
    let bracketed = host.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let is_host = match bracketed {
        Some(ip) => !ip.is_empty() && !ip.contains('/'),
        None => !host.is_empty() && !host.contains([':', '/', '@', '?', '#']),
    };
    is_host && is_port(port)
}

fn is_port(digits: &str) -> bool {
    digits.bytes().all(|digit| digit.is_ascii_digit())
        && digits.parse::<u16>().is_ok_and(|port| port > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;

    fn of(address: &str) -> Result<String, Error> {
        target(address, Some(Path::new("/home/me")))
    }

    #[test]
    fn what_is_given_goes_before_the_environment() {
        for (given, environment, meant) in [
            (Some("here:1"), Some("there:1"), Some("here:1")),
            (None, Some("there:1"), Some("there:1")),
            (Some(""), Some(""), None),
        ] {
            assert_eq!(named(given, environment, None).expect("it is one").as_deref(), meant);
        }
    }

    #[test]
    fn a_socket_is_named_as_grpc_names_it_and_below_the_home_directory() {
        for (written, meant) in [
            ("unix:/run/s", "unix:/run/s"),
            ("unix:///run/s", "unix:/run/s"),
            ("unix:s", "unix:s"),
            ("unix:~/s", "unix:/home/me/s"),
        ] {
            assert_eq!(of(written).expect("it is one"), meant);
        }
    }

    #[test]
    fn what_is_no_address_is_an_invalid_request_that_says_so() {
        for address in [
            "host",
            ":1",
            "host:",
            "host:0",
            "host:65536",
            "host:+1",
            "a:b:1",
            "http://host:1",
            "me@host:1",
            "unix:",
            "unix://",
            "host:1\n",
            "[]:1",
            "a:1,",
            "a:1,b",
            "a:1,unix:/b",
            "unix:~you/s",
        ] {
            let error = of(address).expect_err(address);
            assert_eq!(error.reason(), Reason::InvalidRequest);
            assert_eq!(error.violations()[0].subject, "address");
        }
    }

    #[test]
    fn several_are_separated_by_commas_which_a_path_may_have() {
        assert_eq!(of("a:1, [::1]:2,b:3").expect("they are"), "a:1,[::1]:2,b:3");
        assert_eq!(each_of("a:1,b:2").collect::<Vec<_>>(), ["a:1", "b:2"]);
        assert_eq!(each_of("unix:/a,b:2").collect::<Vec<_>>(), ["unix:/a,b:2"]);
    }

    #[test]
    fn hosts_are_names_and_numbers() {
        for address in ["host:1", "127.0.0.1:65535", "[::1]:50051", "a-b.c:80"] {
            assert_eq!(uri(&of(address).expect(address), false), format!("http://{address}"));
            assert_eq!(uri(&of(address).expect(address), true), format!("https://{address}"));
        }
    }
    #[test]
    fn only_sockets_and_loopback_are_this_machine() {
        for near in [
            "unix:/s",
            "127.0.0.1:1",
            "127.8.9.10:1",
            "[::1]:1",
            "LocalHost:1",
            "[::1]:1,localhost:2",
        ] {
            assert!(is_this_machine(near), "{near}");
        }
        for far in [
            "10.0.0.1:1",
            "0.0.0.0:1",
            "[::]:1",
            "[::ffff:127.0.0.1]:1",
            "pool.test:1",
            "localhost.test:1",
            "128.0.0.1:1",
            "127.1:1",
            "127.0.0.1:1,10.0.0.1:1",
        ] {
            assert!(!is_this_machine(far), "{far}");
        }
    }
}
