package poolservice

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// echoing answers with the user agent that asks.
type echoing struct {
	pb.UnimplementedPoolServiceServer
}

func (echoing) Ensure(ctx context.Context, request *pb.EnsureRequest) (*pb.EnsureResponse, error) {
	agent := strings.Join(metadata.ValueFromIncomingContext(ctx, "user-agent"), " ")
	server := message(StateReady, 1)
	server.Model, server.Detail = request.GetModel(), agent
	return &pb.EnsureResponse{Server: server}, nil
}

func serve(t *testing.T, network, where string) net.Listener {
	t.Helper()
	listener := listenAt(t, network, where)
	server := grpc.NewServer()
	pb.RegisterPoolServiceServer(server, echoing{})
	serveOn(t, server, listener)
	return listener
}

func listenAt(t *testing.T, network, where string) net.Listener {
	t.Helper()
	listener, err := net.Listen(network, where)
	if err != nil {
		t.Fatal(err)
	}
	return listener
}

// serveOn serves until the test ends.
func serveOn(t *testing.T, server *grpc.Server, listener net.Listener) {
	t.Helper()
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		if err := <-served; err != nil {
			t.Error(err)
		}
	})
}

// socketIn a directory whose path is short: on macOS a socket's has 103 bytes at most.
func socketIn(t *testing.T, name string) string {
	t.Helper()
	directory, err := os.MkdirTemp("", "pool")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := os.RemoveAll(directory); err != nil {
			t.Error(err)
		}
	})
	return filepath.Join(directory, name)
}

func TestAClientConnectsToAPortAndToASocketWhateverItsPath(t *testing.T) {
	port := serve(t, "tcp", "127.0.0.1:0").Addr().String()
	_, number, _ := strings.Cut(port, ":")
	socket := socketIn(t, "a b")
	serve(t, "unix", socket)
	for _, address := range []string{port, "localhost:" + number, "unix:" + socket, "unix://" + socket} {
		pool, err := Connect(address)
		if err != nil {
			t.Fatal(err)
		}
		got, err := pool.Ensure(t.Context(), "m")
		if err != nil || !strings.HasPrefix(got.Server.Detail, "pool-service-client-go/") {
			t.Errorf("%s: %+v, %v", address, got, err)
		}
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestAClientConnectsWhenItIsFirstUsed(t *testing.T) {
	socket := socketIn(t, "s")
	pool, err := Connect("unix:"+socket, WithRetryPolicy(RetryPolicy{Attempts: 1}))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	serve(t, "unix", socket)
	if _, err := pool.Ensure(t.Context(), "m"); err != nil {
		t.Error(err)
	}
}

func TestWhereNobodyListensIsToldWithTheAddress(t *testing.T) {
	socket := socketIn(t, "s")
	pool, err := Connect("unix:"+socket, WithRetryPolicy(RetryPolicy{Attempts: 1}))
	if err != nil {
		t.Fatal(err)
	}
	defer pool.Close()
	_, err = pool.Ensure(t.Context(), "m")
	want := "cannot reach the pool service at unix:" + socket + ": no such file or directory"
	if !errors.Is(err, ErrPoolUnavailable) || err.Error() != want {
		t.Error(err)
	}
}
