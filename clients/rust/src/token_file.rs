//! A file that holds a token.

use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use crate::error::Error;
use crate::file::Kind;
use crate::token::{self, Header, WHAT_A_TOKEN_IS};

const TOKEN_FILE: Kind =
    Kind { option: "token_file", name: "token file", holds: "token", is_secret: true };

/// A file with a token, which may be replaced at any time.
pub(crate) struct TokenFile {
    path: PathBuf,
    last: Mutex<Read>,
}

struct Read {
    mark: Mark,
    header: Header,
}

/// What tells that a file has changed.
#[derive(PartialEq, Eq)]
struct Mark {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Mark {
    fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.size(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
        }
    }
}

impl TokenFile {
    /// The file at this path, which may begin with `~`, whatever becomes of the working directory.
    pub(crate) fn open(said: &Path, home: Option<&Path>) -> Result<Self, Error> {
        let path = TOKEN_FILE.absolute(said, home)?;
        let last = Mutex::new(read(&path)?);
        Ok(Self { path, last })
    }

    /// Reads the file again if it has changed. A file that is bad now, since it is being written,
    /// say, keeps the last token.
    pub(crate) fn header(&self) -> Header {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let now = fs::metadata(&self.path).map(|metadata| Mark::of(&metadata));
        if now.is_ok_and(|mark| mark != last.mark)
            && let Ok(newer) = read(&self.path)
        {
            *last = newer;
        }
        last.header.clone()
    }
}

fn read(path: &Path) -> Result<Read, Error> {
    let (metadata, bytes) = TOKEN_FILE.contents(path)?;
    let text = String::from_utf8_lossy(&bytes);
    let token = text.trim();
    if token.is_empty() {
        return Err(TOKEN_FILE.bad(path, "is empty: write the token into it"));
    }
    let header = token::header(token)
        .ok_or_else(|| TOKEN_FILE.bad(path, &format!("holds no valid token: {WHAT_A_TOKEN_IS}")))?;
    Ok(Read { mark: Mark::of(&metadata), header })
}

#[cfg(test)]
pub(crate) mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::atomic::{AtomicU32, Ordering};
    use std::{env, process};

    use super::*;
    use crate::Reason;

    /// A directory that goes with the test.
    pub(crate) struct Folder(PathBuf);

    impl Folder {
        pub(crate) fn new() -> Self {
            static COUNT: AtomicU32 = AtomicU32::new(0);
            let number = COUNT.fetch_add(1, Ordering::Relaxed);
            let path = env::temp_dir().join(format!("pool-token-{}-{number}", process::id()));
            fs::create_dir(&path).expect("it is new");
            Self(path)
        }

        pub(crate) fn path(&self) -> &Path {
            &self.0
        }

        /// A file for the user alone, in place of one that is there.
        pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
            let (new, path) = (self.0.join("new"), self.0.join(name));
            fs::write(&new, text).expect("there is room");
            set_mode(&new, 0o600);
            fs::rename(&new, &path).expect("it is there");
            path
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    pub(crate) fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is ours");
    }

    fn open(path: &Path) -> TokenFile {
        TokenFile::open(path, None).unwrap_or_else(|error| panic!("{error}"))
    }

    fn shown(file: &TokenFile) -> String {
        file.header().to_str().expect("it is text").to_owned()
    }

    #[test]
    fn a_new_token_counts_from_the_next_call_on_and_a_bad_file_keeps_the_last() {
        let folder = Folder::new();
        let path = folder.write("token", "first\n");
        let file = open(&path);
        assert_eq!(shown(&file), "Bearer first");
        folder.write("token", "other");
        assert_eq!(shown(&file), "Bearer other");
        fs::write(&path, "written in place").expect("it is ours");
        assert_eq!(shown(&file), "Bearer other");
        fs::write(&path, "written-in-place").expect("it is ours");
        assert_eq!(shown(&file), "Bearer written-in-place");
        fs::remove_file(&path).expect("it is there");
        assert_eq!(shown(&file), "Bearer written-in-place");
        folder.write("token", "back");
        assert_eq!(shown(&file), "Bearer back");
    }

    #[test]
    fn a_file_that_becomes_open_to_others_keeps_the_last_token() {
        let folder = Folder::new();
        let path = folder.write("token", "first");
        let file = open(&path);
        folder.write("token", "second");
        set_mode(&path, 0o644);
        assert_eq!(shown(&file), "Bearer first");
        set_mode(&path, 0o640);
        assert_eq!(shown(&file), "Bearer second");
    }

    #[test]
    fn a_file_is_found_below_the_home_directory() {
        let folder = Folder::new();
        folder.write("token", "at-home");
        let file = TokenFile::open(Path::new("~/token"), Some(&folder.0));
        assert!(file.is_ok_and(|file| shown(&file) == "Bearer at-home"));
    }

    #[test]
    fn the_path_does_not_change_with_the_working_directory() {
        let error = refused(Path::new("no-such-token"));
        let here = env::current_dir().expect("it is there");
        assert!(error.contains(&format!("chmod 600 {}", here.join("no-such-token").display())));
    }

    fn refused(path: &Path) -> String {
        let Err(error) = TokenFile::open(path, None) else {
            panic!("{} is taken", path.display());
        };
        assert_eq!(error.reason(), Reason::InvalidRequest);
        assert_eq!(error.violations()[0].subject, "token_file");
        assert!(!format!("{error} {error:?}").contains("hush"), "{error:?}");
        error.message().to_owned()
    }

    #[test]
    fn each_bad_file_is_refused_with_what_to_do() {
        let folder = Folder::new();
        let with_mode = |name, mode| {
            let path = folder.write(name, "hush");
            set_mode(&path, mode);
            path
        };
        let plain = folder.write("plain", "hush");
        let large = format!("{}t", " ".repeat(1 << 20));
        for (path, words) in [
            (folder.0.join("absent"), "No such file or directory"),
            (plain.join("below"), "Not a directory"),
            (PathBuf::new(), "cannot read the token file"),
            (folder.0.clone(), "no regular file"),
            (PathBuf::from("/dev/null"), "no regular file"),
            (PathBuf::from("~you/token"), "home directory that is not known"),
            (PathBuf::from("~/token"), "home directory that is not known"),
            (folder.write("empty", " \n"), "is empty"),
            (folder.write("large", large), "larger than 1 MiB"),
            (with_mode("others-read", 0o604), "mode 0604"),
            (with_mode("others-write", 0o602), "mode 0602"),
            (with_mode("group-writes", 0o620), "mode 0620"),
            (folder.write("two", "hush hush"), "no white space"),
            (folder.write("long", "hush".repeat(1025)), "4096"),
            (folder.write("bytes", b"hush\xff"), "printable ASCII"),
        ] {
            let message = refused(&path);
            assert!(message.contains(words), "{message}");
            assert!(message.contains(&path.display().to_string()), "{message}");
        }
        let open = with_mode("open", 0o644);
        assert!(refused(&open).ends_with(&format!("run chmod 600 {}", open.display())));
    }
}
