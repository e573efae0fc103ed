package poolservice

import (
	"os"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// A token of whoever runs the tests would change what they see.
	os.Unsetenv(TokenVariable)
	os.Unsetenv(TokenFileVariable)
	goleak.VerifyTestMain(m)
}
