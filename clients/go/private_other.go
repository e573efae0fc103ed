//go:build !unix

package poolservice

// isPrivate reports false: the service does not run on this system.
func isPrivate(string) bool { return false }
