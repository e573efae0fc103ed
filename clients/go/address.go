package poolservice

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/user"
	"slices"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	// AddressVariable is the environment variable that stands in for an address.
	AddressVariable = "POOL_SERVICE_ADDRESS"
	// DefaultAddress is the TCP address on which a service listens by default.
	DefaultAddress = "127.0.0.1:50051"

	unixPrefix = "unix:"
)

// address is the address of a service, in the form of net.Dial; or several, if where has commas and
// the network is "tcp".
type address struct {
	network string // "tcp" or "unix"
	where   string
}

// each returns the addresses in the order in which they are called.
func (a address) each() []address {
	if a.network == "unix" {
		return []address{a}
	}
	var each []address
	for one := range strings.SplitSeq(a.where, ",") {
		each = append(each, address{a.network, one})
	}
	return each
}

func (a address) String() string {
	if a.network == "unix" {
		return unixPrefix + a.where
	}
	return a.where
}

// isThisMachine reports whether what is sent to the address, or to each of several, stays on this
// machine. A host name other than localhost counts as another machine's.
func (a address) isThisMachine() bool {
	if a.network == "unix" {
		return true
	}
	return !slices.ContainsFunc(a.each(), func(one address) bool { return !isLoopback(one.where) })
}

func isLoopback(where string) bool {
	host, _, err := net.SplitHostPort(where)
	if err != nil {
		return false
	}
	ip, err := netip.ParseAddr(host)
	if err != nil {
		return strings.EqualFold(host, "localhost")
	}
	return ip.IsLoopback() && !ip.Is4In6()
}

// addressOf returns the given address, else that of the environment, else the default one.
func addressOf(given string) (address, error) {
	chosen := given
	if chosen == "" {
		chosen = os.Getenv(AddressVariable)
	}
	if chosen == "" {
		return defaultAddress(), nil
	}
	if path, isPath := strings.CutPrefix(chosen, unixPrefix); isPath && path != "" && isPrintable(chosen) {
		return socketAt(chosen, strings.TrimPrefix(path, "//"))
	}
	var each []string
	for one := range strings.SplitSeq(chosen, ",") {
		each = append(each, strings.TrimSpace(one))
	}
	isWrong := func(one string) bool { return !isHostAndPort(one) }
	if isPrintable(chosen) && !slices.ContainsFunc(each, isWrong) {
		return address{"tcp", strings.Join(each, ",")}, nil
	}
	return address{}, fmt.Errorf("%q is no address of a pool service: write host:port or unix:PATH, "+
		"or several host:port with commas", chosen)
}

func socketAt(chosen, path string) (address, error) {
	expanded, err := withHome(path)
	if err != nil {
		return address{}, fmt.Errorf("%q names a home directory that is not known: %w", chosen, err)
	}
	return address{"unix", expanded}, nil
}

// withHome replaces "~" by the home directory, as the service does.
func withHome(path string) (string, error) {
	if !strings.HasPrefix(path, "~") {
		return path, nil
	}
	name, rest, _ := strings.Cut(strings.TrimPrefix(path, "~"), "/")
	home, err := homeOf(name)
	if err != nil {
		return "", err
	}
	return strings.TrimSuffix(home, "/") + "/" + rest, nil
}

func homeOf(name string) (string, error) {
	if name == "" {
		return os.UserHomeDir()
	}
	somebody, err := user.Lookup(name)
	if err != nil {
		return "", err
	}
	return somebody.HomeDir, nil
}

func isPrintable(text string) bool {
	return utf8.ValidString(text) &&
		!strings.ContainsFunc(text, func(r rune) bool { return !unicode.IsPrint(r) })
}

func isHostAndPort(text string) bool {
	colon := strings.LastIndexByte(text, ':')
	if colon < 0 {
		return false
	}
	host, port := text[:colon], text[colon+1:]
	if bare, isBracketed := strings.CutPrefix(host, "["); isBracketed && strings.HasSuffix(bare, "]") {
		host = strings.TrimSuffix(bare, "]")
	} else if strings.Contains(host, ":") {
		return false
	}
	return host != "" && !strings.Contains(host, "/") && isPort(port)
}

func isPort(digits string) bool {
	if strings.HasPrefix(digits, "+") {
		return false
	}
	port, err := strconv.ParseUint(digits, 10, 16)
	return err == nil && port > 0
}
