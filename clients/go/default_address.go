package poolservice

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"
)

// busyAfter is how long a program on this machine can take to accept a connection before it counts
// as busy, which still means that it listens.
const busyAfter = time.Second

// defaultAddress returns the address of a service that nobody named: the first default socket on
// which a program listens, else DefaultAddress.
func defaultAddress() address {
	if own, found := ownSocket(); found {
		return own
	}
	return address{"tcp", DefaultAddress}
}

// ownSocket returns the first default socket on which a program listens; false if there is none.
//
// A socket counts only in a directory of this user that no other user can enter: a program of
// another user could pose as the service.
func ownSocket() (address, bool) {
	for _, directory := range socketDirectories() {
		path := filepath.Join(directory, "socket")
		if isPrivate(directory) && isListenedOn(path) {
			return address{"unix", path}, true
		}
	}
	return address{}, false
}

// socketDirectories returns the directories in which a service makes its socket by default.
func socketDirectories() []string {
	var found []string
	if runtimes := os.Getenv("XDG_RUNTIME_DIR"); filepath.IsAbs(runtimes) {
		found = append(found, filepath.Join(runtimes, "pool-service"))
	}
	if states := stateHome(); filepath.IsAbs(states) {
		found = append(found, filepath.Join(states, "pool-service", "run"))
	}
	return found
}

// stateHome returns the directory in which programs keep their state; "" without a home.
func stateHome() string {
	if named := os.Getenv("XDG_STATE_HOME"); filepath.IsAbs(named) {
		return named
	}
	home, err := os.UserHomeDir()
	if err != nil {
		return ""
	}
	if runtime.GOOS == "darwin" {
		return filepath.Join(home, "Library", "Application Support")
	}
	return filepath.Join(home, ".local", "state")
}

func isListenedOn(path string) bool {
	connection, err := net.DialTimeout("unix", path, busyAfter)
	if err != nil {
		return errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, syscall.EAGAIN)
	}
	return connection.Close() == nil
}
