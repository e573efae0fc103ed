package poolservice

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "start" {
		os.Exit(playProgram(os.Args[2:])) // a test has started this as the program of a service
	}
	// A token of whoever runs the tests would change what they see.
	os.Unsetenv(TokenVariable)
	os.Unsetenv(TokenFileVariable)
	os.Unsetenv(ProgramVariable)
	goleak.VerifyTestMain(m)
}
