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

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
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
		case "warn-arguments":
			fmt.Fprintln(os.Stderr, strings.Join(os.Args[1:], " "))
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

// serveHealth serves this health on the socket of a directory.
func serveHealth(t *testing.T, directory string, status healthpb.HealthCheckResponse_ServingStatus) {
	t.Helper()
	said := health.NewServer()
	said.SetServingStatus("", status)
	server := grpc.NewServer()
	healthpb.RegisterHealthServer(server, said)
	serveOn(t, server, listenAt(t, "unix", filepath.Join(directory, "socket")))
}

func TestAServiceThatServesIsConnectedToAndNoProgramRuns(t *testing.T) {
	atHome(t)
	fails := WithArguments("exit=1")
	first, _ := places(t)
	serveHealth(t, first, healthpb.HealthCheckResponse_SERVING)
	expectConnected(t, "unix:"+filepath.Join(first, "socket"), fails)
	t.Setenv(AddressVariable, "unix:/named")
	expectConnected(t, "unix:/named", fails)
}

func TestWhatListensAndDoesNotSayThatItServesIsNotConnectedToAndTheProgramRuns(t *testing.T) {
	for name, listen := range map[string]func(t *testing.T, directory string){
		"ending": func(t *testing.T, directory string) {
			serveHealth(t, directory, healthpb.HealthCheckResponse_NOT_SERVING)
		},
		"without health": func(t *testing.T, directory string) {
			serve(t, "unix", filepath.Join(directory, "socket"))
		},
		"another program": func(t *testing.T, directory string) {
			listener := listenAt(t, "unix", filepath.Join(directory, "socket"))
			t.Cleanup(func() { _ = listener.Close() })
			go func() {
				for connection, err := listener.Accept(); err == nil; connection, err = listener.Accept() {
					_ = connection.Close()
				}
			}()
		},
	} {
		t.Run(name, func(t *testing.T) {
			atHome(t)
			first, _ := places(t)
			listen(t, first)
			expectConnected(t, "127.0.0.1:7", WithArguments("print=127.0.0.1:7"))
		})
	}
}

func TestWhatListensAndSaysNothingIsGivenUpAfterTwoSeconds(t *testing.T) {
	atHome(t)
	first, _ := places(t)
	listenIn(t, first)
	began := time.Now()
	expectConnected(t, "127.0.0.1:7", WithArguments("print=127.0.0.1:7"))
	if took := time.Since(began); took < 2*time.Second || took > 10*time.Second {
		t.Errorf("it took %v", took)
	}
}

func TestWhoGivesUpBeforeTheSocketAnswersStartsNothing(t *testing.T) {
	atHome(t)
	first, _ := places(t)
	listenIn(t, first)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := ConnectOrStart(ctx, WithArguments("print=127.0.0.1:7")); !errors.Is(err, ErrCancelled) {
		t.Error(err)
	}
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

func TestTheProgramGetsALimitBeforeTheArgumentsOfItsCaller(t *testing.T) {
	atHome(t)
	_, err := ConnectOrStart(t.Context(), WithArguments("--timeout", "7s", "warn-arguments", "exit=4"))
	expectNotStarted(t, err, ":\nstart --timeout 30s --timeout 7s warn-arguments exit=4")
}

func TestTheProgramHasHalfAMinuteUnlessItsCallerSaysOtherwiseAndIsKilledLater(t *testing.T) {
	for _, expected := range []struct{ caller, program, kill time.Duration }{
		{0, 30 * time.Second, 35 * time.Second},
		{time.Hour, time.Hour - 5*time.Second, time.Hour},
		{20 * time.Second, 15 * time.Second, 20 * time.Second},
		{400 * time.Millisecond, 300 * time.Millisecond, 400 * time.Millisecond},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx := t.Context()
			if expected.caller > 0 {
				limited, cancel := context.WithTimeout(ctx, expected.caller)
				defer cancel()
				ctx = limited
			}
			started, done, program := startContext(ctx)
			defer done()
			if program != expected.program || limitOf(started) != expected.kill {
				t.Errorf("%v: %v, killed after %v", expected.caller, program, limitOf(started))
			}
		})
	}
}

func TestALimitIsWrittenPlainly(t *testing.T) {
	for limit, want := range map[time.Duration]string{
		30 * time.Second:                     "30s",
		300 * time.Millisecond:               "0.3s",
		time.Hour - 5*time.Second:            "3595s",
		30*time.Second - 20*time.Microsecond: "30s",
		10_000_000 * time.Second:             "10000000s",
		time.Nanosecond:                      "0.001s",
		-time.Second:                         "0.001s",
	} {
		if got := secondsText(limit); got != want {
			t.Errorf("%v is %s, not %s", limit, got, want)
		}
	}
}
