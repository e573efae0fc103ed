package poolservice

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/protoadapt"
	"google.golang.org/protobuf/types/known/durationpb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// inVirtualTime runs a test whose clock stands still while anybody has something to do. It
// fails if a goroutine is left.
func inVirtualTime(t *testing.T, test func(t *testing.T, service *scripted)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		service := &scripted{
			answers: map[string][]answer{},
			asked:   map[string][]proto.Message{},
			at:      map[string][]time.Duration{},
			began:   time.Now(),
		}
		service.start()
		t.Cleanup(service.stop)
		test(t, service)
	})
}

// scripted is a service in memory that answers what it was told to.
type scripted struct {
	pb.UnimplementedPoolServiceServer

	mutex    sync.Mutex
	answers  map[string][]answer
	asked    map[string][]proto.Message
	at       map[string][]time.Duration
	open     int // streams
	began    time.Time
	listener *bufconn.Listener
	server   *grpc.Server
	silent   atomic.Bool // nothing that is written arrives
}

// answer is the steps of an answer to one call.
type answer []step

// step sends a message, fails or waits.
type step func(ctx context.Context, send func(proto.Message) error) error

func say(message proto.Message) step {
	return func(_ context.Context, send func(proto.Message) error) error { return send(message) }
}

func fail(err error) step {
	return func(context.Context, func(proto.Message) error) error { return err }
}

// stay says nothing until the caller goes.
func stay(ctx context.Context, _ func(proto.Message) error) error {
	<-ctx.Done()
	return ctx.Err()
}

func pause(delay time.Duration) step {
	return func(ctx context.Context, _ func(proto.Message) error) error {
		wait(ctx, delay)
		return nil
	}
}

// answer adds an answer to a call of the RPC; the last one is repeated.
func (s *scripted) answer(rpc string, steps ...step) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.answers[rpc] = append(s.answers[rpc], steps)
}

func (s *scripted) start() {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.listener = bufconn.Listen(1 << 16)
	// As the service has it: by default a server takes no ping each 30 s.
	s.server = grpc.NewServer(grpc.KeepaliveEnforcementPolicy(
		keepalive.EnforcementPolicy{MinTime: 10 * time.Second}))
	pb.RegisterPoolServiceServer(s.server, s)
	go func(server *grpc.Server, listener net.Listener) {
		_ = server.Serve(listener)
	}(s.server, s.listener)
}

// stop breaks every connection, as the end of the process does.
func (s *scripted) stop() {
	s.mutex.Lock()
	listener, server := s.listener, s.server
	s.listener = nil
	s.mutex.Unlock()
	if listener != nil {
		server.Stop()
	}
}

var errRefused = errors.New("connection refused")

func (s *scripted) dial(ctx context.Context, _ string) (net.Conn, error) {
	s.mutex.Lock()
	listener := s.listener
	s.mutex.Unlock()
	if listener == nil {
		return nil, errRefused
	}
	connection, err := listener.DialContext(ctx)
	return &silenced{connection, &s.silent}, err
}

// silenced is a connection whose other end may vanish without a word.
type silenced struct {
	net.Conn
	silent *atomic.Bool
}

func (s *silenced) Write(data []byte) (int, error) {
	if s.silent.Load() {
		return len(data), nil
	}
	return s.Conn.Write(data)
}

// client is one whose jitter is none.
func (s *scripted) client(t *testing.T, options ...ConnectOption) *Client {
	t.Helper()
	return s.clientOf(t, "localhost:1", options...)
}

func (s *scripted) clientOf(t *testing.T, address string, options ...ConnectOption) *Client {
	t.Helper()
	options = append(options, WithDialOptions(grpc.WithContextDialer(s.dial)))
	pool, err := Connect(address, options...)
	if err != nil {
		t.Fatal(err)
	}
	pool.chance = func() float64 { return 0 }
	t.Cleanup(func() {
		if err := pool.Close(); err != nil {
			t.Error(err)
		}
	})
	return pool
}

// connection is one that is not the client's own.
func (s *scripted) connection(t *testing.T) *grpc.ClientConn {
	t.Helper()
	connection, err := grpc.NewClient("passthrough:///pool.test",
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithContextDialer(s.dial))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := connection.Close(); err != nil {
			t.Error(err)
		}
	})
	return connection
}

// requests are what was asked of the RPC, in order.
func (s *scripted) requests(rpc string) []proto.Message {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]proto.Message{}, s.asked[rpc]...)
}

// times are when the RPC was asked, since the test began.
func (s *scripted) times(rpc string) []time.Duration {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return append([]time.Duration{}, s.at[rpc]...)
}

// streams is how many are open.
func (s *scripted) streams() int {
	synctest.Wait()
	s.mutex.Lock()
	defer s.mutex.Unlock()
	return s.open
}

func (s *scripted) next(rpc string, request proto.Message) answer {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.asked[rpc] = append(s.asked[rpc], request)
	s.at[rpc] = append(s.at[rpc], time.Since(s.began))
	answers := s.answers[rpc]
	if len(answers) == 0 {
		return answer{fail(status.Error(codes.Unimplemented, "no answer was scripted"))}
	}
	if len(answers) > 1 {
		s.answers[rpc] = answers[1:]
	}
	return answers[0]
}

func (s *scripted) count(change int) {
	s.mutex.Lock()
	defer s.mutex.Unlock()
	s.open += change
}

func (a answer) play(ctx context.Context, send func(proto.Message) error) error {
	for _, step := range a {
		if err := step(ctx, send); err != nil {
			return err
		}
	}
	return nil
}

func unary[R proto.Message](ctx context.Context, s *scripted, rpc string, request proto.Message) (R, error) {
	var response R
	err := s.next(rpc, request).play(ctx, func(message proto.Message) error {
		response = message.(R)
		return nil
	})
	return response, err
}

func stream[R any](s *scripted, rpc string, request proto.Message, stream grpc.ServerStreamingServer[R]) error {
	s.count(1)
	defer s.count(-1)
	return s.next(rpc, request).play(stream.Context(), func(message proto.Message) error {
		return stream.SendMsg(message)
	})
}

func (s *scripted) Ensure(ctx context.Context, request *pb.EnsureRequest) (*pb.EnsureResponse, error) {
	return unary[*pb.EnsureResponse](ctx, s, "Ensure", request)
}

func (s *scripted) Get(ctx context.Context, request *pb.GetRequest) (*pb.GetResponse, error) {
	return unary[*pb.GetResponse](ctx, s, "Get", request)
}

func (s *scripted) Evict(ctx context.Context, request *pb.EvictRequest) (*pb.EvictResponse, error) {
	return unary[*pb.EvictResponse](ctx, s, "Evict", request)
}

func (s *scripted) List(ctx context.Context, request *pb.ListRequest) (*pb.ListResponse, error) {
	return unary[*pb.ListResponse](ctx, s, "List", request)
}

func (s *scripted) ListModels(ctx context.Context, request *pb.ListModelsRequest) (*pb.ListModelsResponse, error) {
	return unary[*pb.ListModelsResponse](ctx, s, "ListModels", request)
}

func (s *scripted) Forget(ctx context.Context, request *pb.ForgetRequest) (*pb.ForgetResponse, error) {
	return unary[*pb.ForgetResponse](ctx, s, "Forget", request)
}

func (s *scripted) Pin(ctx context.Context, request *pb.PinRequest) (*pb.PinResponse, error) {
	return unary[*pb.PinResponse](ctx, s, "Pin", request)
}

func (s *scripted) Describe(ctx context.Context, request *pb.DescribeRequest) (*pb.DescribeResponse, error) {
	return unary[*pb.DescribeResponse](ctx, s, "Describe", request)
}

func (s *scripted) Reload(ctx context.Context, request *pb.ReloadRequest) (*pb.ReloadResponse, error) {
	return unary[*pb.ReloadResponse](ctx, s, "Reload", request)
}

func (s *scripted) Watch(request *pb.WatchRequest, out grpc.ServerStreamingServer[pb.WatchResponse]) error {
	return stream(s, "Watch", request, out)
}

func (s *scripted) Hold(request *pb.HoldRequest, out grpc.ServerStreamingServer[pb.HoldResponse]) error {
	return stream(s, "Hold", request, out)
}

func (s *scripted) Pull(request *pb.PullRequest, out grpc.ServerStreamingServer[pb.PullResponse]) error {
	return stream(s, "Pull", request, out)
}

func (s *scripted) TailLogs(request *pb.TailLogsRequest, out grpc.ServerStreamingServer[pb.TailLogsResponse]) error {
	return stream(s, "TailLogs", request, out)
}

// refusal is a failure as the service tells it.
func refusal(code codes.Code, reason string, details ...protoadapt.MessageV1) error {
	info := &errdetails.ErrorInfo{
		Reason: reason, Domain: errorDomain, Metadata: map[string]string{"model": "m"}}
	came, err := status.New(code, "it is "+reason).WithDetails(append([]protoadapt.MessageV1{info}, details...)...)
	if err != nil {
		panic(err)
	}
	return came.Err()
}

func after(delay time.Duration) protoadapt.MessageV1 {
	return &errdetails.RetryInfo{RetryDelay: durationpb.New(delay)}
}

// message is a server in a state; READY with an endpoint.
func message(state ServerState, generation uint64) *pb.Server {
	server := &pb.Server{
		Model:      "m",
		State:      pb.ServerState(state),
		Generation: generation,
		Pid:        uint32(1000 + generation),
	}
	if state == StateReady {
		server.Endpoint = "http://127.0.0.1:49321"
		server.ServedModelName = "served-m"
	}
	return server
}

func ensured(generation uint64) step {
	return say(&pb.EnsureResponse{Server: message(StateReady, generation)})
}

func holds(state ServerState, generation uint64) step {
	return say(&pb.HoldResponse{Server: message(state, generation)})
}
