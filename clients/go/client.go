package poolservice

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"sync"

	"google.golang.org/grpc"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// Client is a connection to a pool service, for any number of goroutines.
type Client struct {
	stub       pb.PoolServiceClient
	connection io.Closer // nil if it is the caller's
	address    string
	retry      RetryPolicy
	chance     func() float64

	life  context.Context
	end   context.CancelFunc
	close func() error

	mutex sync.Mutex // no hold is added once life has ended
	holds sync.WaitGroup
}

// Connect returns a client of the service at host:port or unix:PATH, where "~" is the home
// directory; or at several host:port, separated by commas, of which the next one is called when one
// fails. An empty address means POOL_SERVICE_ADDRESS, else the socket of your own service if
// one listens there now, else 127.0.0.1:50051. The client connects on first use.
//
// Without WithToken or WithTokenFile, the token is that of POOL_SERVICE_TOKEN, else of the file
// POOL_SERVICE_TOKEN_FILE, else there is none.
//
// To another machine it speaks TLS: it trusts the authorities of WithCA, else of POOL_SERVICE_CA,
// else those of the system, and shows the certificate of WithCertificate, else of
// POOL_SERVICE_CERT and POOL_SERVICE_KEY, if there is one. To a loopback address it speaks TLS only
// if you give an option about that. It reads these files now: make a new client when you have
// replaced them.
//
// Connect fails only if the address, the token or a file is not valid.
func Connect(address string, options ...ConnectOption) (*Client, error) {
	to, err := addressOf(address)
	if err != nil {
		return nil, err
	}
	return connectTo(to, connectSettingsOf(options))
}

func connectTo(to address, settings connectSettings) (*Client, error) {
	token, err := bearerOf(settings)
	if err != nil {
		return nil, err
	}
	encryption, err := tlsFor(settings.tls, to)
	if err != nil {
		return nil, err
	}
	if token != nil {
		settings.dial = append(settings.dial, grpc.WithPerRPCCredentials(token))
	}
	addresses, limit := to.each(), connectTimeout
	if len(addresses) > 1 {
		limit = shortConnectTimeout
	}
	var each []*grpc.ClientConn
	for _, one := range addresses {
		connection, err := connectionTo(one, encryption, limit, settings.dial)
		if err != nil {
			return nil, fmt.Errorf("cannot set up a connection to %s: %w", one, err)
		}
		each = append(each, connection)
	}
	if len(each) == 1 {
		client := newClient(each[0], to.String(), settings.retry)
		client.connection = each[0]
		return client, nil
	}
	all := &connections{each: each}
	settings.retry.addresses = len(each)
	client := newClient(all, to.String(), settings.retry)
	client.connection = all
	return client, nil
}

// New returns a client on your own connection, which you close after the client. It sends no token:
// for that, make the connection with grpc.WithPerRPCCredentials.
func New(connection grpc.ClientConnInterface, options ...ConnectOption) *Client {
	return newClient(connection, "the connection's address", connectSettingsOf(options).retry)
}

func connectSettingsOf(options []ConnectOption) connectSettings {
	var settings connectSettings
	for _, option := range options {
		option(&settings)
	}
	return settings
}

func newClient(connection grpc.ClientConnInterface, address string, retry RetryPolicy) *Client {
	client := &Client{
		stub:    pb.NewPoolServiceClient(connection),
		address: address,
		retry:   retry,
		chance:  rand.Float64,
	}
	client.life, client.end = context.WithCancel(context.Background())
	client.close = sync.OnceValue(client.closeOnce)
	return client
}

// Close ends all open calls with ErrCancelled and releases all holds. You may call it more than
// once.
func (c *Client) Close() error { return c.close() }

func (c *Client) closeOnce() error {
	c.mutex.Lock()
	c.end()
	c.mutex.Unlock()
	c.holds.Wait()
	if c.connection == nil {
		return nil
	}
	return c.connection.Close()
}

// within returns a context that also ends with the client.
func (c *Client) within(ctx context.Context) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	stop := context.AfterFunc(c.life, func() { cancel(errClosed) })
	return ctx, func() {
		stop()
		cancel(nil)
	}
}

// goHold reads a hold in a goroutine for which Close waits, unless the client is closed.
func (c *Client) goHold(read func()) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	if c.life.Err() != nil {
		go read()
		return
	}
	c.holds.Go(read)
}

// Ensure waits until the model's server is READY, and starts it if there is none. Giving up
// does not stop the start. WithProgress shows how it goes on.
func (c *Client) Ensure(ctx context.Context, model string, options ...EnsureOption) (Ensured, error) {
	var said settings
	for _, option := range options {
		option.forEnsure(&said)
	}
	response, err := c.ensure(ctx, &pb.EnsureRequest{
		Model:        model,
		RuntimeModel: said.runtimeModel,
		KeepAlive:    said.keepAlive,
		Download:     said.download,
	}, said.progress)
	if err != nil {
		return Ensured{}, err
	}
	if response.GetServer() == nil {
		return Ensured{}, c.noPoolService("it names no server")
	}
	if response.GetServer().GetEndpoint() == "" {
		return Ensured{}, c.noPoolService("its server has no endpoint")
	}
	return Ensured{Server: keyed(response.GetServer(), response.GetApiKey()), Started: response.GetStarted()}, nil
}

// Get returns the model's server as it is now, if it has one. It starts nothing, and does not count
// as a use of the server.
//
// WithCheck asks a READY server whether it still serves: use it when a connection to the server
// broke.
func (c *Client) Get(ctx context.Context, model string, options ...GetOption) (Found, error) {
	var said settings
	for _, option := range options {
		option.forGet(&said)
	}
	response, err := invoke(ctx, c, c.stub.Get, &pb.GetRequest{Model: model, Check: said.check})
	if err != nil {
		return Found{}, err
	}
	return foundOf(response), nil
}

// Evict stops the model's server. When its process is gone it returns the stopped server, or none
// if there was none. Giving up does not stop the eviction.
func (c *Client) Evict(ctx context.Context, model string, options ...EvictOption) ([]EvictedServer, error) {
	return c.evict(ctx, &pb.EvictRequest{Target: &pb.EvictRequest_Model{Model: model}}, options)
}

// EvictIdle stops every READY server that is neither in use nor pinned.
func (c *Client) EvictIdle(ctx context.Context) ([]EvictedServer, error) {
	return c.evict(ctx, &pb.EvictRequest{Target: &pb.EvictRequest_Idle{Idle: true}}, nil)
}

// EvictAll stops every server that is not in use; with WithForce also those in use.
func (c *Client) EvictAll(ctx context.Context, options ...EvictOption) ([]EvictedServer, error) {
	return c.evict(ctx, &pb.EvictRequest{Target: &pb.EvictRequest_All{All: true}}, options)
}

func (c *Client) evict(ctx context.Context, request *pb.EvictRequest, options []EvictOption) ([]EvictedServer, error) {
	var said settings
	for _, option := range options {
		option.forEvict(&said)
	}
	request.Force = said.force
	response, err := invoke(ctx, c, c.stub.Evict, request)
	if err != nil {
		return nil, err
	}
	return evictedOf(response), nil
}

// Forget removes the runtime model that is remembered for a model, and returns it, or "" if there
// was none. A running server goes on as it is.
func (c *Client) Forget(ctx context.Context, model string) (string, error) {
	response, err := invoke(ctx, c, c.stub.Forget, &pb.ForgetRequest{Model: model})
	return response.GetRuntimeModel(), err
}

// Pin pins the model, or takes its pin back, whatever the configuration says: its server is stopped
// neither for being unused nor for other models. It starts nothing, and is kept over evictions and
// restarts of the service.
func (c *Client) Pin(ctx context.Context, model string, pinned bool) (Pinned, error) {
	return c.pin(ctx, &pb.PinRequest{Model: model, Pinned: &pinned})
}

// PinAsConfigured undoes Pin: the configuration decides again whether the model is pinned.
func (c *Client) PinAsConfigured(ctx context.Context, model string) (Pinned, error) {
	return c.pin(ctx, &pb.PinRequest{Model: model})
}

func (c *Client) pin(ctx context.Context, request *pb.PinRequest) (Pinned, error) {
	response, err := invoke(ctx, c, c.stub.Pin, request)
	return Pinned{
		Pinned:     response.GetPinned(),
		Changed:    response.GetChanged(),
		Configured: response.GetConfigured(),
	}, err
}

// Describe returns all that the service knows about a model: its settings, servers and last starts,
// who holds it and waits for it, what would be stopped for another model, and the last decisions.
func (c *Client) Describe(ctx context.Context, model string) (Description, error) {
	response, err := invoke(ctx, c, c.stub.Describe, &pb.DescribeRequest{Model: model})
	if err != nil {
		return Description{}, err
	}
	return descriptionOf(response), nil
}

// Reload makes the service read its configuration again and apply the differences. If it fails
// with ErrConfigInvalid, nothing is changed.
func (c *Client) Reload(ctx context.Context) (Reloaded, error) {
	response, err := invoke(ctx, c, c.stub.Reload, &pb.ReloadRequest{})
	if err != nil {
		return Reloaded{}, err
	}
	return Reloaded{
		Replaced:      response.GetReplaced(),
		Updated:       response.GetUpdated(),
		Removed:       response.GetRemoved(),
		RestartNeeded: response.GetRestartNeeded(),
		Problems:      response.GetProblems(),
	}, nil
}

// invoke makes a call, with retries by retry.go.
func invoke[Q, R any](
	ctx context.Context,
	c *Client,
	method func(context.Context, *Q, ...grpc.CallOption) (*R, error),
	request *Q,
) (*R, error) {
	ctx, done := c.within(ctx)
	defer done()
	attempts := c.attempts(ctx)
	said := call{c, limitOf(ctx)}
	for {
		response, err := method(ctx, request)
		if err == nil {
			return response, nil
		}
		delay, final := attempts.failed(said.errorOf(ctx, err))
		if final == nil && !wait(ctx, delay) {
			_, final = attempts.failed(said.givenUp(ctx))
		}
		if final != nil {
			return nil, final
		}
	}
}
