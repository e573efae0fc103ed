package poolservice

import (
	"context"
	"crypto/tls"
	"net"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const modulePath = "github.com/pool-service/pool-service/clients/go"

// connectTimeout is the time for a connection: gRPC's default in other languages.
const connectTimeout = 20 * time.Second

// shortConnectTimeout is the same where another address could be called instead.
const shortConnectTimeout = 5 * time.Second

// connectionTo returns a lazy connection to a service, which may be restarted. encryption: nil: none.
func connectionTo(
	to address, encryption *tls.Config, limit time.Duration, more []grpc.DialOption,
) (*grpc.ClientConn, error) {
	// The dialer gets the address unchanged: gRPC's resolvers would read a path as a URL, and
	// resolve a name only every 30 s.
	target := "passthrough:///" + to.where
	if to.network == "unix" {
		target = "passthrough:///localhost"
	}
	return grpc.NewClient(target, append(dialOptions(to, encryption, limit), more...)...)
}

func dialOptions(to address, encryption *tls.Config, limit time.Duration) []grpc.DialOption {
	transport := insecure.NewCredentials()
	if encryption != nil {
		transport = credentials.NewTLS(encryption)
	}
	dialer := &net.Dialer{}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithUserAgent("pool-service-client-go/" + version()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, to.network, to.where)
		}),
		// No proxy belongs between a caller and its own machine, and retry.go decides which calls
		// are retried.
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		// By default it can take two minutes to find a service that is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  100 * time.Millisecond,
				Multiplier: backoff.DefaultConfig.Multiplier,
				Jitter:     backoff.DefaultConfig.Jitter,
				MaxDelay:   time.Second,
			},
			MinConnectTimeout: limit,
		}),
		// A watch may be quiet for hours; the keepalive notices a peer that vanished.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:    30 * time.Second,
			Timeout: 20 * time.Second,
		}),
	}
}

// version returns the version of this module in the running program.
func version() string {
	info, ok := debug.ReadBuildInfo()
	if !ok {
		return "unknown"
	}
	for _, module := range info.Deps {
		if module.Path == modulePath {
			return module.Version
		}
	}
	return "devel"
}
