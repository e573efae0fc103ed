package poolservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"google.golang.org/grpc/codes"
	health "google.golang.org/grpc/health/grpc_health_v1"
)

const (
	// ProgramVariable is the environment variable that names the program which starts a service.
	ProgramVariable = "POOL_SERVICE_PROGRAM"

	defaultProgram = "pool-service"
	// startLimit is the limit that the program gets, if the caller's context has no deadline.
	startLimit = 30 * time.Second
	// startMargin is how much later the program is killed: its own message says more.
	startMargin = 5 * time.Second
	// healthTimeout is how long a service may take to say whether it serves.
	healthTimeout = 2 * time.Second
	// pipeGrace is how long the output of the program is read after its end, in case another process
	// has it open.
	pipeGrace = time.Second
	// mostWords is how many bytes of what the program writes are kept, and shownLines how many lines
	// of it an error shows.
	mostWords  = 1 << 13
	shownLines = 5
)

// ConnectOrStart returns a client of your own service, and starts that service if it does not run.
//
//  1. If POOL_SERVICE_ADDRESS is set, ConnectOrStart connects to that address, and starts nothing.
//  2. If a service listens on a default socket, and says within 2 s that it serves, ConnectOrStart
//     connects to it.
//  3. Else it runs "pool-service start", which waits for the end of a service that is ending, starts
//     one that goes on when your program ends, and connects to it. If several programs do so at the
//     same moment, they get the same service.
//
// The program gets a limit of 30 s (--timeout), and is killed after 35 s. If ctx has a deadline, the
// program is killed then, and its limit ends 5 s earlier, or after three quarters of the time that is
// left if that is later. If the program fails, the error is ErrServiceNotStarted. Otherwise
// ConnectOrStart fails like Connect.
func ConnectOrStart(ctx context.Context, options ...ConnectOrStartOption) (*Client, error) {
	var settings startSettings
	for _, option := range options {
		option.forConnectOrStart(&settings)
	}
	to, err := settings.addressOfService(ctx)
	if err != nil {
		return nil, err
	}
	return connectTo(to, settings.connect)
}

// addressOfService returns the address of the service, and starts it if it has to.
func (s *startSettings) addressOfService(ctx context.Context) (address, error) {
	if named := os.Getenv(AddressVariable); named != "" {
		return addressOf(named)
	}
	if own, found := ownSocket(); found && serves(ctx, own) {
		return own, nil
	}
	return s.start(ctx)
}

// serves reports whether a service at the address says that it serves. What listens there may also
// be a service that is ending.
func serves(ctx context.Context, at address) bool {
	connection, err := connectionTo(at, nil, connectTimeout, nil)
	if err != nil {
		return false
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(ctx, healthTimeout)
	defer cancel()
	answer, err := health.NewHealthClient(connection).Check(ctx, &health.HealthCheckRequest{})
	return err == nil && answer.GetStatus() == health.HealthCheckResponse_SERVING
}

// start runs the program to its end, and returns the address that it prints.
func (s *startSettings) start(ctx context.Context) (address, error) {
	program := s.program
	if program == "" {
		program = os.Getenv(ProgramVariable)
	}
	if program == "" {
		program = defaultProgram
	}
	limited, done, programLimit := startContext(ctx)
	defer done()
	limit := limitOf(limited)
	// The caller's arguments come last, so that theirs win.
	arguments := append([]string{"start", "--timeout", secondsText(programLimit)}, s.arguments...)
	command := exec.CommandContext(limited, program, arguments...)
	command.WaitDelay = pipeGrace
	var printed, said lastWords
	command.Stdout, command.Stderr = &printed, &said
	err := command.Run()
	shown := program + " start"
	switch {
	case err == nil, errors.Is(err, exec.ErrWaitDelay):
		return printedAddress(shown, string(printed))
	case isOver(limited):
		return address{}, notStarted("cannot start a pool service: %s was not done %s, and was ended. "+
			"See what it says, or give it more time%s", shown, within(limit), said.lines())
	case ctx.Err() != nil:
		return address{}, &Error{
			Kind:    ErrCancelled,
			Code:    codes.Canceled,
			Message: "the start of a pool service was given up",
			cause:   context.Cause(ctx),
		}
	case errors.Is(err, exec.ErrNotFound), errors.Is(err, os.ErrNotExist):
		return address{}, notFound(program)
	default:
		return address{}, notStarted("cannot start a pool service: %s failed (%v). Mend the cause, "+
			"or name a service that runs in %s%s", shown, err, AddressVariable, said.lines())
	}
}

// startContext returns a context that limits the start, also where the caller does not, and the
// limit that the program gets, which is shorter.
func startContext(ctx context.Context) (context.Context, context.CancelFunc, time.Duration) {
	if _, limited := ctx.Deadline(); !limited {
		ctx, cancel := context.WithTimeout(ctx, startLimit+startMargin)
		return ctx, cancel, startLimit
	}
	ctx, cancel := context.WithCancel(ctx)
	left := limitOf(ctx)
	return ctx, cancel, left - min(startMargin, left/4)
}

// secondsText returns a limit as the program reads it, such as "0.3s". The program refuses "0s".
func secondsText(limit time.Duration) string {
	seconds := max(limit.Round(time.Millisecond), time.Millisecond).Seconds()
	return strconv.FormatFloat(seconds, 'f', -1, 64) + "s"
}

func printedAddress(shown, printed string) (address, error) {
	line := strings.TrimSpace(printed)
	to, err := addressOf(line)
	if line == "" || err != nil {
		return address{}, notStarted("cannot start a pool service: %s printed %q, which is no address. "+
			"Is it another program? Name the right one in %s", shown, line, ProgramVariable)
	}
	return to, nil
}

func notFound(program string) *Error {
	where := ""
	if !strings.ContainsRune(program, os.PathSeparator) {
		where = " on PATH"
	}
	return notStarted("%s was not found%s: install it (docs/how-to/install.md), or name it in %s",
		program, where, ProgramVariable)
}

// notStarted returns the error of a service that could not be started.
func notStarted(format string, values ...any) *Error {
	return &Error{
		Kind:    ErrServiceNotStarted,
		Code:    codes.Unavailable,
		Message: fmt.Sprintf(format, values...),
	}
}

// lastWords keeps the end of what is written to it.
type lastWords []byte

// Write appends data, and drops what is too much from the beginning.
func (w *lastWords) Write(data []byte) (int, error) {
	all := append(*w, data...)
	*w = all[max(0, len(all)-mostWords):]
	return len(data), nil
}

// lines returns the last lines behind a colon; "" if there are none.
func (w lastWords) lines() string {
	text := strings.TrimSpace(strings.ToValidUTF8(string(w), "?"))
	if text == "" {
		return ""
	}
	lines := strings.Split(text, "\n")
	return ":\n" + strings.Join(lines[max(0, len(lines)-shownLines):], "\n")
}
