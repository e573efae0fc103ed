//! The token that tells a service who calls.

use std::env;
use std::path::{Path, PathBuf};

use tonic::metadata::{Ascii, MetadataValue};

use crate::error::Error;
use crate::token_file::TokenFile;

/// The environment variable with the token.
pub const TOKEN_VARIABLE: &str = "POOL_SERVICE_TOKEN";

/// The environment variable with the path of the token's file; [`TOKEN_VARIABLE`] goes before it.
pub const TOKEN_FILE_VARIABLE: &str = "POOL_SERVICE_TOKEN_FILE";

const LONGEST_TOKEN: usize = 4096;
pub(crate) const WHAT_A_TOKEN_IS: &str =
    "a token has 1 to 4096 printable ASCII characters, and no white space";

pub(crate) type Header = MetadataValue<Ascii>;

/// Where a token is, as it was said. It is not `Debug`, so that no token is shown.
#[derive(Clone, Default)]
pub(crate) struct Given {
    pub(crate) token: Option<String>,
    pub(crate) file: Option<PathBuf>,
}

impl Given {
    /// What the environment says; an empty variable says nothing.
    pub(crate) fn of_environment() -> Self {
        let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
        Self {
            token: variable(TOKEN_VARIABLE).map(|value| value.to_string_lossy().into_owned()),
            file: variable(TOKEN_FILE_VARIABLE).map(PathBuf::from),
        }
    }

    fn is_none(&self) -> bool {
        self.token.is_none() && self.file.is_none()
    }
}

/// A token to be sent with each RPC. It is not `Debug` either.
pub(crate) enum Token {
    Fixed(Header),
    File(TokenFile),
}

impl Token {
    /// The given token, else the environment's, if there is one.
    pub(crate) fn of(
        given: Given,
        environment: Given,
        home: Option<&Path>,
    ) -> Result<Option<Self>, Error> {
        if given.token.is_some() && given.file.is_some() {
            let message = "both a token and a token file are given: give one of them";
            return Err(Error::invalid("token", message.to_owned()));
        }
        let (chosen, name) =
            if given.is_none() { (environment, TOKEN_VARIABLE) } else { (given, "the token") };
        if chosen.is_none() {
            return Ok(None);
        }
        match chosen {
            Given { token: Some(token), .. } => {
                let invalid =
                    || Error::invalid("token", format!("{name} is not valid: {WHAT_A_TOKEN_IS}"));
                header(&token).map(Self::Fixed).map(Some).ok_or_else(invalid)
            }
            Given { file, .. } => {
                file.map(|path| TokenFile::open(&path, home).map(Self::File)).transpose()
            }
        }
    }

    /// The value of `authorization` for the next RPC.
    pub(crate) fn header(&self) -> Header {
        match self {
            Self::Fixed(header) => header.clone(),
            Self::File(file) => file.header(),
        }
    }
}

/// The value of `authorization` with this token; `None` if it is no token.
pub(crate) fn header(token: &str) -> Option<Header> {
    let is_token = (1..=LONGEST_TOKEN).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    let mut header = Header::try_from(format!("Bearer {token}")).ok().filter(|_| is_token)?;
    // Shown as such, and kept out of HTTP/2's table of headers.
    header.set_sensitive(true);
    Some(header)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Reason;
    use crate::token_file::tests::Folder;

    fn given(token: Option<&str>, file: Option<&Path>) -> Given {
        Given { token: token.map(str::to_owned), file: file.map(Path::to_owned) }
    }

    fn sent(call: Given, environment: Given) -> Option<String> {
        let token = Token::of(call, environment, None).expect("it is valid");
        token.map(|token| token.header().to_str().expect("it is text").to_owned())
    }

    fn refused(call: Given, environment: Given) -> Error {
        let Err(error) = Token::of(call, environment, None) else {
            panic!("the token is taken");
        };
        assert_eq!(error.reason(), Reason::InvalidRequest);
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        error
    }

    #[test]
    fn a_given_token_goes_before_the_environments_and_that_before_its_file() {
        let folder = Folder::new();
        let file = folder.write("given", " of-file\n");
        let named = folder.write("named", "of-named-file");
        let none = Given::default;
        let both = || given(Some("of-variable"), Some(&named));
        for (call, environment, expected) in [
            (none(), none(), None),
            (none(), given(None, Some(&named)), Some("Bearer of-named-file")),
            (none(), both(), Some("Bearer of-variable")),
            (given(None, Some(&file)), both(), Some("Bearer of-file")),
            (given(Some("of-call"), None), both(), Some("Bearer of-call")),
        ] {
            assert_eq!(sent(call, environment).as_deref(), expected);
        }
        refused(given(Some("hush"), Some(&file)), none());
    }

    #[test]
    fn what_is_no_token_is_refused_and_not_repeated() {
        let long = "hush".repeat(1025);
        for bad in ["", "hush hush", "hush\n", "hüsh", "hush\x7f", &long] {
            let error = refused(given(Some(bad), None), Given::default());
            assert!(error.message().starts_with("the token is not valid"), "{error}");
            assert!(!error.message().contains("hü"), "{error}");
        }
        let error = refused(Given::default(), given(Some("hush hush"), None));
        assert!(error.message().starts_with(TOKEN_VARIABLE), "{error}");
        assert!(header(&"~".repeat(4096)).is_some());
    }

    #[test]
    fn a_header_does_not_show_its_token() {
        let mut request = tonic::Request::new(());
        request.metadata_mut().insert("authorization", header("hush").expect("it is a token"));
        assert!(!format!("{request:?}").contains("hush"));
    }
}
