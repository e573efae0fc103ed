//! TLS: which services a client trusts, and the certificate that it shows.

use std::env;
use std::path::{Path, PathBuf};

use tonic::transport::{Certificate, ClientTlsConfig, Identity};

use crate::address;
use crate::error::Error;
use crate::file::Kind;

/// The environment variable with the path of the authorities that are trusted.
pub const CA_VARIABLE: &str = "POOL_SERVICE_CA";
/// The environment variable with the path of the certificate that is shown.
pub const CERT_VARIABLE: &str = "POOL_SERVICE_CERT";
/// The environment variable with the path of its key.
pub const KEY_VARIABLE: &str = "POOL_SERVICE_KEY";
/// The environment variable with the name that the service's certificate must have.
pub const SERVER_NAME_VARIABLE: &str = "POOL_SERVICE_SERVER_NAME";

const CA: Kind = Kind { option: "ca", name: "CA file", holds: "certificates", is_secret: false };
const CERT: Kind =
    Kind { option: "cert", name: "certificate file", holds: "certificate", is_secret: false };
const KEY: Kind = Kind { option: "key", name: "key file", holds: "key", is_secret: true };

const BEGIN_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";

/// What is said about TLS.
#[derive(Clone, Default, PartialEq, Eq)]
pub(crate) struct Given {
    pub(crate) ca: Option<PathBuf>,
    pub(crate) cert: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
    pub(crate) server_name: Option<String>,
}

impl Given {
    /// What the environment says; an empty variable says nothing.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            ca: variable(CA_VARIABLE).map(PathBuf::from),
            cert: variable(CERT_VARIABLE).map(PathBuf::from),
            key: variable(KEY_VARIABLE).map(PathBuf::from),
            server_name: variable(SERVER_NAME_VARIABLE)
                .map(|name| name.to_string_lossy().into_owned()),
        }
    }

    /// What is given, else what another says. A certificate and its key are of one source.
    fn or(self, other: Self) -> Self {
        let has_pair = self.cert.is_some() || self.key.is_some();
        let (cert, key) = if has_pair { (self.cert, self.key) } else { (other.cert, other.key) };
        Self {
            ca: self.ca.or(other.ca),
            cert,
            key,
            server_name: self.server_name.or(other.server_name),
        }
    }
}

/// How TLS is spoken to one address of a target; `None`: it is not.
///
/// 1. To another machine it always is.
/// 2. To a loopback address it is if an option is given. Variables do not count there: they are for
///    other machines.
/// 3. By a unix socket it is not.
pub(crate) fn config(
    given: Given,
    environment: Given,
    target: &str,
    one: &str,
    home: Option<&Path>,
) -> Result<Option<ClientTlsConfig>, Error> {
    let is_given = given != Given::default();
    let Some(host) = address::host(one) else {
        let refusal = format!(
            "there is no TLS by a unix socket ({target}): give host:port, or no option about TLS"
        );
        return if is_given { Err(Error::invalid("address", refusal)) } else { Ok(None) };
    };
    if address::is_this_machine(target) && !is_given {
        return Ok(None);
    }
    let said = given.or(environment);
    let name = said.server_name.unwrap_or_else(|| host.to_owned());
    let config = ClientTlsConfig::new().domain_name(name);
    let config = match said.ca {
        Some(ca) => config.ca_certificate(authorities(&ca, home)?),
        None => config.with_native_roots(),
    };
    Ok(Some(match (said.cert, said.key) {
        (Some(cert), Some(key)) => config.identity(identity(&cert, &key, home)?),
        (None, None) => config,
        _ => {
            let message = "a certificate and its key belong together: give both";
            return Err(Error::invalid("cert", message.to_owned()));
        }
    }))
}

fn authorities(said: &Path, home: Option<&Path>) -> Result<Certificate, Error> {
    let path = CA.absolute(said, home)?;
    pem(CA, &path).map(Certificate::from_pem)
}

fn identity(cert: &Path, key: &Path, home: Option<&Path>) -> Result<Identity, Error> {
    let chain = pem(CERT, &CERT.absolute(cert, home)?)?;
    let (_, private) = KEY.contents(&KEY.absolute(key, home)?)?;
    Ok(Identity::from_pem(chain, private))
}

/// What is in a file with certificates in PEM.
fn pem(kind: Kind, path: &Path) -> Result<Vec<u8>, Error> {
    let (_, bytes) = kind.contents(path)?;
    if bytes.windows(BEGIN_CERTIFICATE.len()).any(|window| window == BEGIN_CERTIFICATE) {
        Ok(bytes)
    } else {
        Err(kind.bad(path, "holds no certificates in PEM"))
    }
}

/// The error if tonic cannot use what the files hold.
pub(crate) fn unusable(error: &tonic::transport::Error) -> Error {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    let message = format!(
        "the certificate and the key do not belong together, or are not in PEM, or the authorities \
         are not: {cause}"
    );
    Error::invalid("cert", message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;
    use crate::token_file::tests::{Folder, set_mode};

    const FAR: &str = "far.test:1";

    fn named(name: &str) -> Given {
        Given { server_name: Some(name.to_owned()), ..Given::default() }
    }

    fn with_ca(path: &Path) -> Given {
        Given { ca: Some(path.to_owned()), ..Given::default() }
    }

    fn pair(cert: Option<&Path>, key: Option<&Path>) -> Given {
        Given { cert: cert.map(Path::to_owned), key: key.map(Path::to_owned), ..Given::default() }
    }

    fn is_spoken(given: Given, environment: Given, target: &str) -> bool {
        config(given, environment, target, target, None).expect("it is valid").is_some()
    }

    fn refused(given: Given, environment: Given, target: &str) -> String {
        let error =
            config(given, environment, target, target, None).expect_err("it cannot be used");
        assert_eq!(error.reason(), Reason::InvalidRequest);
        error.message().to_owned()
    }

    #[test]
    fn to_another_machine_it_is_always_spoken() {
        for far in ["10.0.0.1:1", "0.0.0.0:1", "[::]:1", FAR, "localhost.test:1", "127.1:1"] {
            assert!(is_spoken(Given::default(), Given::default(), far), "{far}");
        }
    }

    #[test]
    fn on_this_machine_it_is_not_whatever_the_variables_say() {
        for near in ["127.0.0.1:1", "[::1]:1", "LocalHost:1", "unix:/s"] {
            let variables = with_ca(Path::new("/nonexistent"));
            assert!(!is_spoken(Given::default(), variables, near), "{near}");
        }
        assert!(is_spoken(named("pool.test"), Given::default(), "localhost:1"));
    }

    #[test]
    fn the_variables_count_for_another_machine_after_what_is_given() {
        let missing = || with_ca(Path::new("/nonexistent"));
        assert!(refused(Given::default(), missing(), FAR).starts_with("cannot read the CA file"));
        let folder = Folder::new();
        let ca = folder.write("ca", "-----BEGIN CERTIFICATE-----\n");
        assert!(is_spoken(with_ca(&ca), missing(), FAR));
        // A certificate and its key are of one source.
        let key = pair(None, Some(&ca));
        assert!(refused(pair(Some(&ca), None), key, FAR).contains("give both"));
    }

    #[test]
    fn what_cannot_be_used_is_refused_with_what_to_do() {
        let folder = Folder::new();
        let pem = folder.write("pem", "-----BEGIN CERTIFICATE-----\n");
        let open = folder.write("open", "x");
        set_mode(&open, 0o644);
        let none = Given::default;
        for (given, target, words) in [
            (named("x"), "unix:/s", "no TLS by a unix socket"),
            (pair(Some(&pem), None), FAR, "give both"),
            (pair(None, Some(&pem)), FAR, "give both"),
            (pair(Some(&pem), Some(&open)), FAR, "chmod 600"),
            (pair(Some(&open), Some(&pem)), FAR, "holds no certificates in PEM"),
            (with_ca(&open), FAR, "holds no certificates in PEM"),
            (with_ca(folder.path()), FAR, "no regular file"),
            (with_ca(Path::new("~you/ca")), FAR, "home directory that is not known"),
        ] {
            let message = refused(given, none(), target);
            assert!(message.contains(words), "{message}");
        }
    }
}
