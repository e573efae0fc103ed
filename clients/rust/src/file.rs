//! Small files that a client is given: a token, a key, certificates.

use std::fs::{self, File, Metadata};
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{self, Path, PathBuf};

use crate::address;
use crate::error::Error;

const MOST_BYTES: u64 = 1 << 20;
/// The permissions that make a secret none: all of others', and the group's to write.
const OPEN_TO_OTHERS: u32 = 0o027;
const PERMISSIONS: u32 = 0o7777;

/// What a file is, and what it has, for errors.
#[derive(Clone, Copy)]
pub(crate) struct Kind {
    /// The option that names it.
    pub(crate) option: &'static str,
    pub(crate) name: &'static str,
    pub(crate) holds: &'static str,
    /// Nobody else may read it.
    pub(crate) is_secret: bool,
}

impl Kind {
    /// The path, which may begin with `~`, whatever becomes of the working directory.
    pub(crate) fn absolute(self, said: &Path, home: Option<&Path>) -> Result<PathBuf, Error> {
        let path = address::with_home(said, home)
            .ok_or_else(|| self.bad(said, "is in a home directory that is not known"))?;
        path::absolute(&path).map_err(|error| self.unreadable(&path, &error))
    }

    /// What is in the file, and the very file that was read.
    pub(crate) fn contents(self, path: &Path) -> Result<(Metadata, Vec<u8>), Error> {
        let failed = |error: io::Error| self.unreadable(path, &error);
        // Looked at before it is opened, as opening a named pipe waits for its writer.
        if !fs::metadata(path).map_err(failed)?.is_file() {
            let why = format!("is no regular file: name one that holds only the {}", self.holds);
            return Err(self.bad(path, &why));
        }
        let file = File::open(path).map_err(failed)?;
        // Of the file that is read, should another have taken its place.
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.mode() & PERMISSIONS;
        if self.is_secret && mode & OPEN_TO_OTHERS != 0 {
            let chmod = format!("chmod 600 {}", path.display());
            let why = format!("so its {} is no secret", self.holds);
            let open = format!("is open to other users (mode {mode:04o}), {why}: run {chmod}");
            return Err(self.bad(path, &open));
        }
        let mut bytes = Vec::new();
        file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(failed)?;
        if bytes.len() as u64 > MOST_BYTES {
            let why = format!("is larger than 1 MiB: name one that holds only the {}", self.holds);
            return Err(self.bad(path, &why));
        }
        Ok((metadata, bytes))
    }

    /// The error about a file.
    pub(crate) fn bad(self, path: &Path, why: &str) -> Error {
        self.invalid(format!("the {} \"{}\" {why}", self.name, path.display()))
    }

    fn unreadable(self, path: &Path, error: &io::Error) -> Error {
        let (path, Self { name, holds, .. }) = (path.display(), self);
        let advice = if self.is_secret {
            format!(", for you alone to read (chmod 600 {path})")
        } else {
            String::new()
        };
        self.invalid(format!(
            "cannot read the {name} \"{path}\": {error}: write the {holds} into it{advice}"
        ))
    }

    fn invalid(self, message: String) -> Error {
        Error::invalid(self.option, message)
    }
}
