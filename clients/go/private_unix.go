//go:build unix

package poolservice

import (
	"io/fs"
	"os"
	"syscall"
)

// isPrivate reports whether the path is a directory, not a link, that belongs to this user and that
// no other user can enter.
func isPrivate(path string) bool {
	info, err := os.Lstat(path)
	if err != nil || !info.IsDir() {
		return false
	}
	status, isKnown := info.Sys().(*syscall.Stat_t)
	return isKnown && int(status.Uid) == os.Geteuid() && info.Mode().Perm()&^fs.FileMode(0o700) == 0
}
