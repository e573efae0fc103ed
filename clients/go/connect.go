package poolservice

import (
	"context"
	"net"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

const modulePath = "github.com/pool-service/pool-service/clients/go"

// connectionTo is a lazy connection to a service that is near and may be restarted.
func connectionTo(to address, more []grpc.DialOption) (*grpc.ClientConn, error) {
	// The address goes to the dialer as it is: gRPC's resolvers would read a path as a URL,
	// and ask for a name only every 30 s.
	target := "passthrough:///" + to.where
	if to.network == "unix" {
		target = "passthrough:///localhost"
	}
	return grpc.NewClient(target, append(dialOptions(to), more...)...)
}

func dialOptions(to address) []grpc.DialOption {
	dialer := &net.Dialer{}
	return []grpc.DialOption{
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithUserAgent("pool-service-client-go/" + version()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return dialer.DialContext(ctx, to.network, to.where)
		}),
		// A proxy has no business between a caller and its own machine, and retry.go
		// knows what may be asked again.
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithDisableRetry(),
		// By default it would be up to two minutes until a service is found that is back.
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff: backoff.Config{
				BaseDelay:  100 * time.Millisecond,
				Multiplier: backoff.DefaultConfig.Multiplier,
				Jitter:     backoff.DefaultConfig.Jitter,
				MaxDelay:   time.Second,
			},
			MinConnectTimeout: 20 * time.Second,
		}),
		// A watch may be quiet for hours; a peer that vanished is noticed by this.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time:    30 * time.Second,
			Timeout: 20 * time.Second,
		}),
	}
}

// version is that of this module in the running program.
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
