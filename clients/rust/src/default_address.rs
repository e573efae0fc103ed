//! The address of a service if none is named.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::io::{Errno, ioctl_fionbio};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketType, connect, socket};

const OPEN_TO_OTHERS: u32 = 0o077;
const STATE_HOME: &str =
    if cfg!(target_os = "macos") { "Library/Application Support" } else { ".local/state" };

/// The first default socket on which a program listens; `None` if there is none.
///
/// A socket counts only in a directory of this user that no other user can enter: a program of
/// another user could pose as the service.
pub(crate) fn in_directories(directories: &[PathBuf]) -> Option<String> {
    directories
        .iter()
        .filter(|directory| is_private(directory))
        .map(|directory| directory.join("socket"))
        .filter(|path| is_listened_on(path))
        .find_map(|path| path.to_str().map(|path| format!("unix:{path}")))
}

/// The directories in which a service makes its socket by default.
///
/// runtime, state: what `XDG_RUNTIME_DIR` and `XDG_STATE_HOME` say.
pub(crate) fn directories(
    runtime: Option<OsString>,
    state: Option<OsString>,
    home: Option<&Path>,
) -> Vec<PathBuf> {
    let absolute =
        |said: Option<OsString>| said.map(PathBuf::from).filter(|path| path.is_absolute());
    let state = absolute(state).or_else(|| home.map(|home| home.join(STATE_HOME)));
    let runtime = absolute(runtime).map(|below| below.join("pool-service"));
    runtime.into_iter().chain(state.map(|below| below.join("pool-service/run"))).collect()
}

fn is_private(directory: &Path) -> bool {
    let user = rustix::process::geteuid().as_raw();
    fs::symlink_metadata(directory).is_ok_and(|status| {
        status.is_dir() && status.uid() == user && status.mode() & OPEN_TO_OTHERS == 0
    })
}

/// Whether a program listens at the path, even one that is too busy to accept.
fn is_listened_on(path: &Path) -> bool {
    let connected = SocketAddrUnix::new(path).and_then(|address| {
        let probe = socket(AddressFamily::UNIX, SocketType::STREAM, None)?;
        ioctl_fionbio(&probe, true)?;
        connect(&probe, &address)
    });
    matches!(connected, Ok(()) | Err(Errno::AGAIN))
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, chown, symlink};
    use std::os::unix::net::UnixListener;

    use super::*;
    use crate::token_file::tests::Folder;

    /// The two directories in which a socket may be.
    fn places(folder: &Folder) -> Vec<PathBuf> {
        let (runtime, state) =
            (folder.path().join("run"), folder.path().join("Application Support"));
        let found = directories(Some(runtime.into()), Some(state.into()), None);
        for directory in &found {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(directory).expect("it is new");
        }
        found
    }

    fn listen_in(directory: &Path) -> UnixListener {
        UnixListener::bind(directory.join("socket")).expect("it is free")
    }

    fn found(places: &[PathBuf]) -> String {
        in_directories(places).unwrap_or_default()
    }

    fn socket_in(directory: &Path) -> String {
        format!("unix:{}/socket", directory.display())
    }

    #[test]
    fn the_first_socket_on_which_a_program_listens_is_it() {
        let folder = Folder::new();
        let places = places(&folder);
        assert_eq!(in_directories(&places), None);
        let _second = listen_in(&places[1]);
        assert_eq!(found(&places), socket_in(&places[1]));
        let first = listen_in(&places[0]);
        assert_eq!(found(&places), socket_in(&places[0]));
        drop(first);
        assert_eq!(found(&places), socket_in(&places[1]));
    }

    #[test]
    fn a_socket_in_a_directory_that_others_can_enter_does_not_count() {
        let folder = Folder::new();
        let places = places(&folder);
        let _first = listen_in(&places[0]);
        for mode in [0o710, 0o701, 0o777] {
            fs::set_permissions(&places[0], fs::Permissions::from_mode(mode)).expect("it is ours");
            assert_eq!(in_directories(&places), None);
        }
    }

    #[test]
    fn a_socket_in_a_directory_of_another_user_does_not_count() {
        let folder = Folder::new();
        let places = places(&folder);
        let _first = listen_in(&places[0]);
        // Only root can give a directory away.
        if chown(&places[0], Some(65534), None).is_ok() {
            assert_eq!(in_directories(&places), None);
        }
    }

    #[test]
    fn a_directory_behind_a_link_does_not_count() {
        let folder = Folder::new();
        let places = places(&folder);
        let _first = listen_in(&places[0]);
        let moved = places[0].with_file_name("moved");
        fs::rename(&places[0], &moved).expect("it is there");
        symlink(&moved, &places[0]).expect("the name is free");
        assert_eq!(in_directories(&places), None);
    }

    #[test]
    fn without_variables_the_socket_is_in_the_home_directory() {
        let relative = || Some(OsString::from("relative"));
        let home = Path::new("/home/me");
        let below = home.join(STATE_HOME).join("pool-service/run");
        assert_eq!(directories(None, None, Some(home)), std::slice::from_ref(&below));
        assert_eq!(directories(relative(), relative(), Some(home)), [below]);
        assert!(directories(None, None, None).is_empty());
    }
}
