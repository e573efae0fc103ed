//! The address of the service.

use std::path::Path;

use crate::error::Error;

/// The environment variable with the service's address.
pub const ADDRESS_VARIABLE: &str = "POOL_SERVICE_ADDRESS";

/// The address if neither the caller nor the environment names one.
pub const DEFAULT_ADDRESS: &str = "127.0.0.1:50051";

const UNIX: &str = "unix:";

/// The address to use: the given one, else the environment's, else the default.
pub(crate) fn target(
    given: Option<&str>,
    environment: Option<&str>,
    home: Option<&Path>,
) -> Result<String, Error> {
    let said = [given, environment].into_iter().flatten().find(|address| !address.is_empty());
    let chosen = said.unwrap_or(DEFAULT_ADDRESS);
    if chosen.chars().any(char::is_control) {
        return Err(not_an_address(chosen));
    }
    match chosen.strip_prefix(UNIX) {
        Some(rest) => socket_path(chosen, rest.strip_prefix("//").unwrap_or(rest), home),
        None if is_host_and_port(chosen) => Ok(chosen.to_owned()),
        None => Err(not_an_address(chosen)),
    }
}

/// The target of tonic's connection.
pub(crate) fn uri(target: &str) -> String {
    if target.starts_with(UNIX) { target.to_owned() } else { format!("http://{target}") }
}

pub(crate) fn not_an_address(address: &str) -> Error {
    Error::invalid(
        "address",
        format!("{address:?} is no address of a pool service: write host:port or unix:PATH"),
    )
}

/// Replaces `~` by the home directory, as the service does.
fn socket_path(address: &str, path: &str, home: Option<&Path>) -> Result<String, Error> {
    if path.is_empty() {
        return Err(not_an_address(address));
    }
    let Some(below) = path.strip_prefix('~') else {
        return Ok(format!("{UNIX}{path}"));
    };
    let home = home.and_then(Path::to_str).filter(|_| below.is_empty() || below.starts_with('/'));
    home.map(|home| format!("{UNIX}{home}{below}")).ok_or_else(|| {
        Error::invalid("address", format!("{address:?} names a home directory that is not known"))
    })
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
        target(Some(address), Some("elsewhere:1"), Some(Path::new("/home/me")))
    }

    #[test]
    fn what_is_given_goes_before_the_environment_and_that_before_the_default() {
        assert_eq!(of("here:1").expect("it is one"), "here:1");
        assert_eq!(target(None, Some("there:1"), None).expect("it is one"), "there:1");
        assert_eq!(target(Some(""), Some(""), None).expect("it is one"), DEFAULT_ADDRESS);
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
            "unix:~you/s",
        ] {
            let error = of(address).expect_err(address);
            assert_eq!(error.reason(), Reason::InvalidRequest);
            assert_eq!(error.violations()[0].subject, "address");
        }
    }

    #[test]
    fn hosts_are_names_and_numbers() {
        for address in ["host:1", "127.0.0.1:65535", "[::1]:50051", "a-b.c:80"] {
            assert_eq!(uri(&of(address).expect(address)), format!("http://{address}"));
        }
    }
}
