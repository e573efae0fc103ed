package poolservice

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/protobuf/proto"
)

// shown are the tokens that calls came with.
type shown struct {
	mutex sync.Mutex
	all   []string
}

// note is a step of an answer that keeps the token of its call.
func (s *shown) note(ctx context.Context, _ func(proto.Message) error) error {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.all = append(s.all, strings.Join(metadata.ValueFromIncomingContext(ctx, "authorization"), ","))
	return nil
}

func (s *shown) expect(t *testing.T, want ...string) {
	t.Helper()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	if !slices.Equal(s.all, want) {
		t.Errorf("came with %q, want %q", s.all, want)
	}
}

// near is a client whose address a token may be sent to.
func (s *scripted) near(t *testing.T, options ...ConnectOption) *Client {
	t.Helper()
	return s.clientOf(t, "localhost:1", options...)
}

// tokenIn writes a file for the user alone, in place of one that is there.
func tokenIn(t *testing.T, path, text string) string {
	t.Helper()
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(path+".new", path); err != nil {
		t.Fatal(err)
	}
	return path
}

// headerBy returns what a client with these options would show.
func headerBy(t *testing.T, options ...ConnectOption) string {
	t.Helper()
	token, err := bearerOf(connectSettingsOf(options))
	if err != nil {
		t.Fatal(err)
	}
	if token == nil {
		return ""
	}
	header, err := token.GetRequestMetadata(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return header["authorization"]
}

func TestAGivenTokenCountsBeforeTheEnvironmentsAndThatBeforeItsFile(t *testing.T) {
	directory := t.TempDir()
	given := tokenIn(t, filepath.Join(directory, "given"), " of-file\n")
	named := tokenIn(t, filepath.Join(directory, "named"), "of-named-file")
	for _, c := range []struct {
		options        []ConnectOption
		variable, file string
		want           string
	}{
		{nil, "", "", ""},
		{nil, "", named, "Bearer of-named-file"},
		{nil, "of-variable", named, "Bearer of-variable"},
		{[]ConnectOption{WithTokenFile(given)}, "of-variable", named, "Bearer of-file"},
		{[]ConnectOption{WithToken("of-call")}, "of-variable", named, "Bearer of-call"},
	} {
		t.Setenv(TokenVariable, c.variable)
		t.Setenv(TokenFileVariable, c.file)
		if got := headerBy(t, c.options...); got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestATokenFileIsFoundBelowTheHomeAndTheWorkingDirectory(t *testing.T) {
	home := t.TempDir()
	t.Setenv("HOME", home)
	tokenIn(t, filepath.Join(home, "token"), "first")
	if got := headerBy(t, WithTokenFile("~/token")); got != "Bearer first" {
		t.Error(got)
	}
	t.Chdir(home)
	token, err := bearerOf(connectSettingsOf([]ConnectOption{WithTokenFile("token")}))
	if err != nil {
		t.Fatal(err)
	}
	t.Chdir("/")
	tokenIn(t, filepath.Join(home, "token"), "second")
	if got := token()["authorization"]; got != "Bearer second" {
		t.Error(got)
	}
}

func TestATokenComesWithEachCallItsRetriesAndStreams(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		var came shown
		service.answer("Ensure", came.note, fail(refusal(codes.Unavailable, "RECOVERING")))
		service.answer("Ensure", came.note, ensured(1))
		service.answer("Pull", came.note)
		service.answer("Hold", came.note, fail(refusal(codes.Unavailable, "RECOVERING")))
		service.answer("Hold", came.note, holds(StateReady, 1), stay)
		pool := service.near(t, WithToken("hush"))
		if _, err := pool.Ensure(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		for _, err := range pool.Pull(t.Context(), "m") {
			t.Fatal(err)
		}
		hold := pool.Hold(t.Context(), "m")
		if _, err := hold.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		hold.Close()
		came.expect(t, slices.Repeat([]string{"Bearer hush"}, 5)...)
	})
}

func TestWithoutATokenNoneIsShown(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		var came shown
		service.answer("Ensure", came.note, ensured(1))
		if _, err := service.near(t).Ensure(t.Context(), "m"); err != nil {
			t.Fatal(err)
		}
		came.expect(t, "")
	})
}

func TestANewTokenInTheFileIsShownFromTheNextCallOn(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		var came shown
		service.answer("Ensure", came.note, ensured(1))
		path := tokenIn(t, filepath.Join(t.TempDir(), "token"), "first")
		pool := service.near(t, WithTokenFile(path))
		ask := func() {
			t.Helper()
			if _, err := pool.Ensure(t.Context(), "m"); err != nil {
				t.Fatal(err)
			}
		}
		ask()
		tokenIn(t, path, "other")
		ask()
		if err := os.WriteFile(path, []byte("written in place"), 0o600); err != nil {
			t.Fatal(err)
		}
		ask() // no token, with white space in it: the last one
		if err := os.WriteFile(path, []byte("written-in-place"), 0o600); err != nil {
			t.Fatal(err)
		}
		ask()
		if err := os.Remove(path); err != nil {
			t.Fatal(err)
		}
		ask()
		tokenIn(t, path, "back")
		ask()
		came.expect(t, "Bearer first", "Bearer other", "Bearer other", "Bearer written-in-place",
			"Bearer written-in-place", "Bearer back")
	})
}

func TestATokenFileThatBecomesOpenToOthersKeepsTheLastToken(t *testing.T) {
	path := tokenIn(t, filepath.Join(t.TempDir(), "token"), "first")
	token, err := bearerOfFile(path)
	if err != nil {
		t.Fatal(err)
	}
	tokenIn(t, path, "second")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	if got := token()["authorization"]; got != "Bearer first" {
		t.Error(got)
	}
	if err := os.Chmod(path, 0o640); err != nil {
		t.Fatal(err)
	}
	if got := token()["authorization"]; got != "Bearer second" {
		t.Error(got)
	}
}

func TestEachBadTokenFileIsRefusedWithWhatToDo(t *testing.T) {
	directory := t.TempDir()
	file := func(name, text string, mode fs.FileMode) string {
		path := tokenIn(t, filepath.Join(directory, name), text)
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		return path
	}
	plain := file("plain", "hush", 0o600)
	for path, words := range map[string][]string{
		filepath.Join(directory, "absent"): {"no such file or directory", "chmod 600 " + filepath.Join(directory, "absent")},
		filepath.Join(plain, "below"):      {"not a directory", "chmod 600"},
		"":                                 {"no such file or directory", "chmod 600"},
		directory:                          {"no regular file"},
		"/dev/null":                        {"no regular file"},
		"~no-such-user/token":              {"home directory that is not known"},
		file("empty", " \n", 0o600):        {"empty"},
		file("large", strings.Repeat(" ", 1<<20)+"t", 0o600): {"larger than 1 MiB"},
		file("others-read", "hush", 0o604):                   {"mode 0604", "chmod 600 " + filepath.Join(directory, "others-read")},
		file("others-write", "hush", 0o602):                  {"mode 0602"},
		file("group-writes", "hush", 0o620):                  {"mode 0620"},
		file("two", "hush hush", 0o600):                      {"holds no valid token", "no white space"},
		file("long", strings.Repeat("hush", 1025), 0o600):    {"4096"},
		file("bytes", "hush\xff", 0o600):                     {"printable ASCII"},
	} {
		_, err := Connect("", WithTokenFile(path))
		if err == nil {
			t.Errorf("%s is taken", path)
			continue
		}
		for _, word := range append(words, path) {
			if !strings.Contains(err.Error(), word) {
				t.Errorf("%q is not in: %v", word, err)
			}
		}
		if strings.Contains(err.Error(), "hush") {
			t.Error(err)
		}
	}
}

func TestWhatIsNoTokenIsRefusedAndNotRepeated(t *testing.T) {
	for _, bad := range []string{"", "hu sh", "hush\n", "hüsh", "hush\x7f", strings.Repeat("hush", 1025)} {
		_, err := Connect("", WithToken(bad))
		if err == nil || !strings.Contains(err.Error(), "no white space") || strings.Contains(err.Error(), "hu") {
			t.Errorf("%q: %v", bad, err)
		}
	}
	if got := headerBy(t, WithToken(strings.Repeat("~", 4096))); len(got) != 4096+len("Bearer ") {
		t.Error(len(got))
	}
	t.Setenv(TokenVariable, "hu sh")
	if _, err := Connect(""); err == nil || !strings.HasPrefix(err.Error(), TokenVariable) {
		t.Error(err)
	}
	if _, err := Connect("", WithToken("a"), WithTokenFile("b")); !errors.Is(err, errTwoTokens) {
		t.Error(err)
	}
}

func TestATokenIsInNothingThatIsPrinted(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.Unauthenticated, "TOKEN_UNKNOWN")))
		path := tokenIn(t, filepath.Join(t.TempDir(), "token"), "hush")
		for _, option := range []ConnectOption{WithToken("hush"), WithTokenFile(path)} {
			pool := service.near(t, option)
			_, err := pool.Ensure(t.Context(), "m")
			for _, value := range []any{pool, option, err} {
				if text := fmt.Sprintf("%v %+v %#v", value, value, value); strings.Contains(text, "hush") {
					t.Error(text)
				}
			}
		}
	})
}

func TestARefusedTokenIsFinalAndAQuotaIsWaitedFor(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Ensure", fail(refusal(codes.Unauthenticated, "TOKEN_UNKNOWN")))
		service.answer("Ensure", fail(refusal(codes.PermissionDenied, "SCOPE_MISSING")))
		service.answer("Ensure", fail(refusal(codes.ResourceExhausted, "QUOTA_EXCEEDED", after(3*time.Second))))
		service.answer("Ensure", ensured(1))
		pool := service.near(t, WithToken("hush"))
		for _, want := range []error{ErrTokenUnknown, ErrScopeMissing, nil} {
			if _, err := pool.Ensure(t.Context(), "m"); !errors.Is(err, want) {
				t.Errorf("%v, want %v", err, want)
			}
		}
		if asked := service.times("Ensure"); !slices.Equal(asked, []time.Duration{0, 0, 0, 3 * time.Second}) {
			t.Error(asked)
		}
	})
}
