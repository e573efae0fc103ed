package poolservice

import (
	"strings"
	"testing"
)

func TestAddressesOfAService(t *testing.T) {
	t.Setenv("HOME", "/somebody")
	for given, want := range map[string]address{
		"127.0.0.1:1":       {"tcp", "127.0.0.1:1"},
		"[::1]:65535":       {"tcp", "[::1]:65535"},
		"host.local:50051":  {"tcp", "host.local:50051"},
		"unix:/a/b c":       {"unix", "/a/b c"},
		"unix:///a/b":       {"unix", "/a/b"},
		"unix:a/b":          {"unix", "a/b"},
		"unix:~/run/p.sock": {"unix", "/somebody/run/p.sock"},
		"unix:/a/~/b":       {"unix", "/a/~/b"},
		"a:1, [::1]:2,b:3":  {"tcp", "a:1,[::1]:2,b:3"},
		"unix:/a,b:1":       {"unix", "/a,b:1"},
	} {
		got, err := addressOf(given)
		if err != nil || got != want {
			t.Errorf("%q is %v, %v; want %v", given, got, err, want)
		}
	}
}

func TestWhatIsNoAddressIsRefusedWithWhatOneIs(t *testing.T) {
	for _, given := range []string{
		"host", ":1", "host:0", "host:65536", "host:x", "host:+1", "unix:", "::1:1", "[]:1",
		"http://h:1", "unix:/\xff", "h\x00:1", "a:1,", "a:1,b", "a:1,unix:/b",
	} {
		if _, err := Connect(given); err == nil || !strings.Contains(err.Error(), "write host:port or unix:PATH") {
			t.Errorf("%q: %v", given, err)
		}
	}
}

func TestAHomeThatNobodyHasIsRefused(t *testing.T) {
	_, err := Connect("unix:~no-such-user/s")
	if err == nil || !strings.Contains(err.Error(), "home directory that is not known") {
		t.Error(err)
	}
}

func TestTheEnvironmentStandsInForAnAddress(t *testing.T) {
	withoutSockets(t)
	for _, c := range []struct{ given, variable, want string }{
		{"", "unix:/s", "unix:/s"},
		{"h:1", "unix:/s", "h:1"},
		{"", "", DefaultAddress},
	} {
		t.Setenv(AddressVariable, c.variable)
		if got, err := addressOf(c.given); err != nil || got.String() != c.want {
			t.Errorf("%q with %q is %v, %v", c.given, c.variable, got, err)
		}
	}
}
