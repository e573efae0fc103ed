package poolservice

import (
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"testing"
)

// withoutSockets lets the environment name no place where there is a socket.
func withoutSockets(t *testing.T) {
	t.Helper()
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_STATE_HOME", t.TempDir())
}

// places are the two directories in which a socket may be, which the environment names.
func places(t *testing.T) (first, second string) {
	t.Helper()
	root := filepath.Dir(socketIn(t, "s"))
	first = filepath.Join(root, "run", "pool-service")
	second = filepath.Join(root, "Application Support", "pool-service", "run")
	for _, directory := range []string{first, second} {
		if err := os.MkdirAll(directory, 0o700); err != nil {
			t.Fatal(err)
		}
	}
	t.Setenv("XDG_RUNTIME_DIR", filepath.Join(root, "run"))
	t.Setenv("XDG_STATE_HOME", filepath.Join(root, "Application Support"))
	return first, second
}

// listenIn listens on the socket of a directory; what it returns leaves that dead.
func listenIn(t *testing.T, directory string) (die func()) {
	t.Helper()
	listener, err := net.Listen("unix", filepath.Join(directory, "socket"))
	if err != nil {
		t.Fatal(err)
	}
	listener.(*net.UnixListener).SetUnlinkOnClose(false)
	t.Cleanup(func() { _ = listener.Close() })
	return func() {
		if err := listener.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

func expectFound(t *testing.T, want string) {
	t.Helper()
	if got, err := addressOf(""); err != nil || got.String() != want {
		t.Errorf("found %v, %v; want %s", got, err, want)
	}
}

func TestTheFirstSocketOnWhichAProgramListensIsTheDefault(t *testing.T) {
	first, second := places(t)
	expectFound(t, DefaultAddress)
	listenIn(t, second)
	expectFound(t, "unix:"+filepath.Join(second, "socket"))
	die := listenIn(t, first)
	expectFound(t, "unix:"+filepath.Join(first, "socket"))
	die()
	expectFound(t, "unix:"+filepath.Join(second, "socket"))
}

func TestASocketInADirectoryThatOthersCanEnterDoesNotCount(t *testing.T) {
	for _, mode := range []fs.FileMode{0o710, 0o701, 0o777} {
		first, _ := places(t)
		listenIn(t, first)
		if err := os.Chmod(first, mode); err != nil {
			t.Fatal(err)
		}
		expectFound(t, DefaultAddress)
	}
}

func TestASocketInADirectoryOfAnotherUserDoesNotCount(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root can give a directory away")
	}
	first, _ := places(t)
	listenIn(t, first)
	if err := os.Chown(first, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	expectFound(t, DefaultAddress)
}

func TestADirectoryBehindALinkDoesNotCount(t *testing.T) {
	first, _ := places(t)
	listenIn(t, first)
	moved := filepath.Join(filepath.Dir(first), "moved")
	if err := os.Rename(first, moved); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(moved, first); err != nil {
		t.Fatal(err)
	}
	expectFound(t, DefaultAddress)
}

func TestWithoutVariablesTheSocketIsInTheHomeDirectory(t *testing.T) {
	home := filepath.Dir(socketIn(t, "s"))
	t.Setenv("HOME", home)
	t.Setenv("XDG_RUNTIME_DIR", "")
	t.Setenv("XDG_STATE_HOME", "relative")
	below := filepath.Join(".local", "state")
	if runtime.GOOS == "darwin" {
		below = filepath.Join("Library", "Application Support")
	}
	directory := filepath.Join(home, below, "pool-service", "run")
	if err := os.MkdirAll(directory, 0o700); err != nil {
		t.Fatal(err)
	}
	listenIn(t, directory)
	expectFound(t, "unix:"+filepath.Join(directory, "socket"))
}
