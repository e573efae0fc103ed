package poolservice

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/grpc/codes"
)

// playProgram does what its arguments say, one after the other, as the program that starts a
// service; it returns the exit code.
func playProgram(arguments []string) int {
	for _, argument := range arguments {
		do, value, _ := strings.Cut(argument, "=")
		switch do {
		case "print":
			fmt.Print(value)
		case "warn":
			fmt.Fprintln(os.Stderr, value)
		case "warn-often":
			fmt.Fprint(os.Stderr, strings.Repeat(value+"\n", mostWords))
		case "copy-stdin":
			_, _ = io.Copy(os.Stdout, os.Stdin)
		case "hang": // until the test leaves, which it does only when the test fails
			if connection, err := net.Dial("unix", value); err == nil {
				_, _ = io.Copy(io.Discard, connection)
			}
		case "leave": // a process that goes on, and has the same output
			left := exec.Command(os.Args[0], "start", "hang="+value)
			left.Stdout, left.Stderr = os.Stdout, os.Stderr
			if left.Start() != nil {
				return 1
			}
		case "exit":
			code, _ := strconv.Atoi(value)
			return code
		}
	}
	return 0
}

// atHome lets the environment name no service, and this program as the one that starts one.
func atHome(t *testing.T) {
	t.Helper()
	withoutSockets(t)
	t.Setenv(AddressVariable, "")
	// A program that the race detector watches would end a second later.
	t.Setenv("GORACE", "atexit_sleep_ms=0")
	itself, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	t.Setenv(ProgramVariable, itself)
}

// expectConnected expects a client of an address, which the options give.
func expectConnected(t *testing.T, want string, options ...ConnectOrStartOption) {
	t.Helper()
	pool, err := ConnectOrStart(t.Context(), options...)
	if err != nil {
		t.Fatal(err)
	}
	if pool.address != want {
		t.Errorf("connected to %s, not to %s", pool.address, want)
	}
	if err := pool.Close(); err != nil {
		t.Error(err)
	}
}

// expectNotStarted expects an error with these words.
func expectNotStarted(t *testing.T, err error, words ...string) {
	t.Helper()
	var failed *Error
	if !errors.Is(err, ErrServiceNotStarted) || !errors.As(err, &failed) || failed.Code != codes.Unavailable {
		t.Fatalf("%#v", err)
	}
	for _, word := range words {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q is not in: %v", word, err)
		}
	}
	if failed.Reason != "" {
		t.Errorf("it has the reason %q", failed.Reason)
	}
}

func TestAServiceThatRunsIsConnectedToAndNoProgramRuns(t *testing.T) {
	atHome(t)
	fails := WithArguments("exit=1")
	first, _ := places(t)
	listenIn(t, first)
	expectConnected(t, "unix:"+filepath.Join(first, "socket"), fails)
	t.Setenv(AddressVariable, "unix:/named")
	expectConnected(t, "unix:/named", fails)
}

func TestAnAddressThatIsNoneIsRefusedAndNoProgramRuns(t *testing.T) {
	atHome(t)
	t.Setenv(AddressVariable, "nonsense")
	_, err := ConnectOrStart(t.Context(), WithArguments("print=127.0.0.1:1"))
	if err == nil || !strings.Contains(err.Error(), "write host:port or unix:PATH") {
		t.Error(err)
	}
}

func TestWhereNoServiceRunsTheProgramIsStartedAndItsAddressConnectedTo(t *testing.T) {
	atHome(t)
	socket := socketIn(t, "a b")
	serve(t, "unix", socket)
	pool, err := ConnectOrStart(t.Context(), WithArguments("warn=it starts", "print=unix:"+socket+"\n"))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	if got, err := pool.Ensure(t.Context(), "m"); err != nil || got.Server.Model != "m" {
		t.Error(got, err)
	}
}

func TestTheProgramOfTheOptionGoesBeforeTheVariableAndThatBeforePATH(t *testing.T) {
	atHome(t)
	itself := os.Getenv(ProgramVariable)
	prints := WithArguments("print=127.0.0.1:7")
	expectConnected(t, "127.0.0.1:7", prints)
	t.Setenv(ProgramVariable, "/nowhere/program")
	expectConnected(t, "127.0.0.1:7", prints, WithProgram(itself))

	t.Setenv(ProgramVariable, "")
	directory := t.TempDir()
	if err := os.Symlink(itself, filepath.Join(directory, "pool-service")); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", directory)
	expectConnected(t, "127.0.0.1:7", prints)
}

func TestAProgramThatIsMissingIsToldWithWhatToDo(t *testing.T) {
	atHome(t)
	t.Setenv(ProgramVariable, "")
	t.Setenv("PATH", t.TempDir())
	_, err := ConnectOrStart(t.Context())
	expectNotStarted(t, err)
	want := "pool-service was not found on PATH: install it (docs/how-to/install.md), or name it in POOL_SERVICE_PROGRAM"
	if err.Error() != want {
		t.Error(err)
	}
	_, err = ConnectOrStart(t.Context(), WithProgram("/nowhere/program"))
	expectNotStarted(t, err, "/nowhere/program was not found: ", ProgramVariable)
}

func TestAProgramHasEndedThoughTheServiceThatItLeavesHasItsOutput(t *testing.T) {
	atHome(t)
	socket := socketIn(t, "s")
	listener := listenAt(t, "unix", socket)
	defer listener.Close()
	expectConnected(t, "127.0.0.1:7", WithArguments("leave="+socket, "print=127.0.0.1:7"))
	left, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	_ = left.Close() // with which it ends
}

func TestOnlyTheLastOfWhatAProgramWritesIsKept(t *testing.T) {
	var said lastWords
	for range 3 {
		if count, err := said.Write(make([]byte, mostWords)); count != mostWords || err != nil {
			t.Error(count, err)
		}
	}
	if _, _ = said.Write([]byte("the end")); len(said) != mostWords || !strings.HasSuffix(string(said), "the end") {
		t.Error(len(said))
	}
}

func TestTheProgramReadsNothing(t *testing.T) {
	atHome(t)
	expectConnected(t, "127.0.0.1:7", WithArguments("copy-stdin", "print=127.0.0.1:7"))
}

func TestAProgramThatFailsIsToldWithItsExitCodeAndItsLastWords(t *testing.T) {
	atHome(t)
	_, err := ConnectOrStart(t.Context(), WithArguments("warn=first", "warn-often=word", "warn=the port is taken", "exit=3"))
	expectNotStarted(t, err, os.Getenv(ProgramVariable)+" start failed (exit status 3)", AddressVariable,
		":\nword\nword\nword\nword\nthe port is taken")
	if strings.Contains(err.Error(), "first") || strings.Count(err.Error(), "\n") != shownLines {
		t.Error(err)
	}
}

func TestAProgramThatPrintsNoAddressIsNoProgramOfAService(t *testing.T) {
	atHome(t)
	for _, printed := range []string{"", "\n", "hello", "127.0.0.1:7\n127.0.0.1:8\n"} {
		_, err := ConnectOrStart(t.Context(), WithArguments("print="+printed))
		expectNotStarted(t, err, strconv.Quote(strings.TrimSpace(printed))+", which is no address", ProgramVariable)
	}
}

// ending is a context that ends when its test says so.
type ending struct {
	context.Context
	over  chan struct{}
	cause error
}

func (e *ending) Deadline() (time.Time, bool) { return time.Now().Add(time.Hour), true }
func (e *ending) Done() <-chan struct{}       { return e.over }
func (e *ending) Err() error {
	select {
	case <-e.over:
		return e.cause
	default:
		return nil
	}
}

// endWhileItHangs returns the error of a start whose context ends while the program hangs, when the
// program is gone.
func endWhileItHangs(t *testing.T, cause error) error {
	t.Helper()
	atHome(t)
	socket := socketIn(t, "s")
	listener := listenAt(t, "unix", socket)
	defer listener.Close()
	ctx := &ending{t.Context(), make(chan struct{}), cause}
	ended := make(chan error)
	go func() {
		_, err := ConnectOrStart(ctx, WithArguments("warn=it waits for the disk", "hang="+socket))
		ended <- err
	}()
	program, err := listener.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer program.Close()
	close(ctx.over)
	if _, err := program.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the program goes on: %v", err)
	}
	return <-ended
}

func TestAProgramThatTakesTooLongIsKilledAndItsLastWordsAreTold(t *testing.T) {
	err := endWhileItHangs(t, context.DeadlineExceeded)
	expectNotStarted(t, err, " start was not done within 3600 s, and was ended", "more time:\nit waits for the disk")
}

func TestAStartThatIsGivenUpKillsTheProgram(t *testing.T) {
	err := endWhileItHangs(t, context.Canceled)
	if !errors.Is(err, ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
}

func TestAStartHasHalfAMinuteUnlessItsCallerSaysOtherwise(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, done := startContext(t.Context())
		defer done()
		own, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		longer, ended := startContext(own)
		defer ended()
		if limitOf(ctx) != 30*time.Second || limitOf(longer) != time.Hour {
			t.Error(limitOf(ctx), limitOf(longer))
		}
	})
}
