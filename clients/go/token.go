package poolservice

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
)

const (
	// TokenVariable is the environment variable that stands in for a token.
	TokenVariable = "POOL_SERVICE_TOKEN"
	// TokenFileVariable is the environment variable that stands in for a token file, unless there
	// is a token.
	TokenFileVariable = "POOL_SERVICE_TOKEN_FILE"

	maxTokenLength = 4096
)

var errTwoTokens = errors.New("both a token and a token file are given: give one of them")

// bearer returns the header that shows a token, for each RPC anew. A function, so that no printed
// value has the token in it.
type bearer func() map[string]string

// GetRequestMetadata returns the header. It implements gRPC's PerRPCCredentials.
func (b bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return b(), nil
}

// RequireTransportSecurity returns false: on this machine a token needs no encryption, and to
// another one Connect always speaks TLS.
func (bearer) RequireTransportSecurity() bool { return false }

// bearerOf returns what shows the token of the options, else of the environment; nil without one.
func bearerOf(given connectSettings) (bearer, error) {
	if given.token != nil && given.tokenFile != nil {
		return nil, errTwoTokens
	}
	token, path, name := given.token, given.tokenFile, "the token"
	if token == nil && path == nil {
		token, path, name = variable(TokenVariable), variable(TokenFileVariable), TokenVariable
	}
	if token == nil && path == nil {
		return nil, nil
	}
	if token == nil {
		return bearerOfFile(*path)
	}
	if !isToken(*token) {
		return nil, fmt.Errorf("%s is not valid: %s", name, whatATokenIs)
	}
	header := headerOf(*token)
	return func() map[string]string { return header }, nil
}

// variable returns nil if the variable is not set, or empty.
func variable(name string) *string {
	if value := os.Getenv(name); value != "" {
		return &value
	}
	return nil
}

func headerOf(token string) map[string]string {
	return map[string]string{"authorization": "Bearer " + token}
}

const whatATokenIs = "a token has 1 to 4096 printable ASCII characters, and no white space"

func isToken(text string) bool {
	return text != "" && len(text) <= maxTokenLength &&
		!strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r > '~' })
}
