package main

import (
	"context"
	"fmt"
	"iter"
	"maps"
	"path"
	"sync"

	"google.golang.org/grpc"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

// client counts the RPCs that it has begun.
type client struct {
	*poolservice.Client

	mutex sync.Mutex
	begun map[string]int
}

func newClient(ctx context.Context, said *command, policy poolservice.RetryPolicy) (*client, error) {
	counting := &client{begun: map[string]int{}}
	options := []poolservice.ConnectOption{
		poolservice.WithRetryPolicy(policy),
		poolservice.WithDialOptions(
			grpc.WithChainUnaryInterceptor(counting.unary),
			grpc.WithChainStreamInterceptor(counting.stream),
		),
	}
	if said.Token != nil {
		options = append(options, poolservice.WithToken(*said.Token))
	}
	if said.TokenFile != nil {
		options = append(options, poolservice.WithTokenFile(*said.TokenFile))
	}
	options = append(options, said.tlsOptions()...)
	pool, err := said.connect(ctx, options)
	counting.Client = pool
	return counting, err
}

func (c *command) connect(
	ctx context.Context, options []poolservice.ConnectOption,
) (*poolservice.Client, error) {
	if c.Start == nil {
		return poolservice.Connect(c.Address, options...)
	}
	starting := []poolservice.ConnectOrStartOption{poolservice.WithArguments(*c.Start...)}
	for _, option := range options {
		starting = append(starting, option)
	}
	if c.Program != "" {
		starting = append(starting, poolservice.WithProgram(c.Program))
	}
	if c.StartTimeout != nil {
		var done context.CancelFunc
		ctx, done = context.WithTimeout(ctx, seconds(*c.StartTimeout))
		defer done()
	}
	return poolservice.ConnectOrStart(ctx, starting...)
}

// tlsOptions are options about TLS, as far as anything is said.
func (c *command) tlsOptions() []poolservice.ConnectOption {
	var options []poolservice.ConnectOption
	if c.CA != "" {
		options = append(options, poolservice.WithCA(c.CA))
	}
	if c.Cert != "" || c.Key != "" {
		options = append(options, poolservice.WithCertificate(c.Cert, c.Key))
	}
	if c.ServerName != "" {
		options = append(options, poolservice.WithServerName(c.ServerName))
	}
	return options
}

func (c *client) count(method string) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	c.begun[path.Base(method)]++
}

func (c *client) unary(
	ctx context.Context, method string, request, reply any, connection *grpc.ClientConn,
	invoke grpc.UnaryInvoker, options ...grpc.CallOption,
) error {
	c.count(method)
	return invoke(ctx, method, request, reply, connection, options...)
}

func (c *client) stream(
	ctx context.Context, description *grpc.StreamDesc, connection *grpc.ClientConn, method string,
	open grpc.Streamer, options ...grpc.CallOption,
) (grpc.ClientStream, error) {
	c.count(method)
	return open(ctx, description, connection, method, options...)
}

func (c *client) operation(said *command) (operation, error) {
	operations := map[string]func(context.Context, *command) (object, error){
		"close":    c.close,
		"calls":    c.calls,
		"ensure":   c.ensure,
		"get":      c.get,
		"evict":    c.evict,
		"list":     c.list,
		"servers":  c.servers,
		"watch":    c.watch,
		"models":   c.models,
		"logs":     c.logs,
		"pull":     c.pull,
		"forget":   c.forget,
		"pin":      c.pin,
		"describe": c.describe,
		"reload":   c.reload,
	}
	do, known := operations[said.Op]
	if !known {
		return nil, fmt.Errorf("there is no op %q", said.Op)
	}
	return func(ctx context.Context) (object, error) { return do(ctx, said) }, nil
}

func (c *client) close(context.Context, *command) (object, error) {
	return object{}, c.Close()
}

func (c *client) calls(context.Context, *command) (object, error) {
	c.mutex.Lock()
	defer c.mutex.Unlock()
	counts := object{}
	for rpc, count := range maps.All(c.begun) {
		counts[rpc] = count
	}
	return counts, nil
}

func (c *client) ensure(ctx context.Context, said *command) (object, error) {
	ensured, err := c.Ensure(ctx, said.Model, said.ensureOptions()...)
	if err != nil {
		return nil, err
	}
	return object{"server": serverObject(ensured.Server), "started": ensured.Started}, nil
}

func (c *client) get(ctx context.Context, said *command) (object, error) {
	var options []poolservice.GetOption
	if said.Check {
		options = append(options, poolservice.WithCheck())
	}
	found, err := c.Get(ctx, said.Model, options...)
	if err != nil {
		return nil, err
	}
	if found.Server == nil {
		return object{"server": nil, "answers": found.Answers}, nil
	}
	return object{"server": serverObject(*found.Server), "answers": found.Answers}, nil
}

func (c *client) evict(ctx context.Context, said *command) (object, error) {
	var options []poolservice.EvictOption
	if said.Force {
		options = append(options, poolservice.WithForce())
	}
	var evicted []poolservice.EvictedServer
	var err error
	switch {
	case said.Idle:
		evicted, err = c.EvictIdle(ctx)
	case said.All:
		evicted, err = c.EvictAll(ctx, options...)
	default:
		evicted, err = c.Evict(ctx, said.Model, options...)
	}
	if err != nil {
		return nil, err
	}
	objects := []object{}
	for _, one := range evicted {
		objects = append(objects, object{"server": serverObject(one.Server), "killed": one.Killed})
	}
	return object{"evicted": objects}, nil
}

func (c *client) list(ctx context.Context, said *command) (object, error) {
	servers, pages := []object{}, 0
	var last poolservice.Page
	for page, err := range c.Pages(ctx, said.PageSize) {
		if err != nil {
			return nil, err
		}
		for _, server := range page.Servers {
			servers = append(servers, serverObject(server))
		}
		last = page
		pages++
	}
	return object{
		"servers":  servers,
		"pages":    pages,
		"revision": last.Revision,
		"totals":   totalsObject(last.Totals),
		"notices":  list(last.Notices),
	}, nil
}

// servers returns what the client's own list has, not page by page.
func (c *client) servers(ctx context.Context, _ *command) (object, error) {
	servers, err := c.List(ctx)
	if err != nil {
		return nil, err
	}
	return object{"servers": objects(servers, serverObject)}, nil
}

func (c *client) watch(ctx context.Context, said *command) (object, error) {
	events := c.Watch(ctx)
	if said.Revision != nil {
		events = c.WatchAfter(ctx, *said.Revision)
	}
	return object{}, tellEach(said, events, func(event poolservice.Event) object {
		told := object{"kind": event.Kind.String(), "revision": event.Revision}
		if event.Kind != poolservice.EventSynced {
			told["server"] = serverObject(event.Server)
		}
		return told
	})
}

func (c *client) models(ctx context.Context, said *command) (object, error) {
	var options []poolservice.ModelsOption
	if said.Found {
		options = append(options, poolservice.WithFound())
	}
	models, err := c.Models(ctx, options...)
	if err != nil {
		return nil, err
	}
	return object{"models": objects(models, modelObject)}, nil
}

func (c *client) pull(ctx context.Context, said *command) (object, error) {
	progress := c.Pull(ctx, said.Model, said.pullOptions()...)
	return object{}, tellEach(said, progress, func(now poolservice.Progress) object {
		return object{"done": now.DoneBytes, "total": now.TotalBytes}
	})
}

func (c *client) logs(ctx context.Context, said *command) (object, error) {
	parts := c.Logs(ctx, said.Model, said.logOptions()...)
	return object{}, tellEach(said, parts, func(part poolservice.LogPart) object {
		if part.Ended {
			return object{
				"kind": "ended", "generation": part.Generation, "exit": exitObject(part.Exit), "cursor": part.Cursor}
		}
		return object{
			"kind": "lines", "generation": part.Generation, "lines": list(part.Lines),
			"missed_bytes": part.MissedBytes, "cursor": part.Cursor}
	})
}

func (c *client) forget(ctx context.Context, said *command) (object, error) {
	forgotten, err := c.Forget(ctx, said.Model)
	return object{"runtime_model": forgotten}, err
}

func (c *client) pin(ctx context.Context, said *command) (object, error) {
	var pinned poolservice.Pinned
	var err error
	if said.Pinned == nil {
		pinned, err = c.PinAsConfigured(ctx, said.Model)
	} else {
		pinned, err = c.Pin(ctx, said.Model, *said.Pinned)
	}
	return object{"pinned": pinned.Pinned, "changed": pinned.Changed, "configured": pinned.Configured}, err
}

func (c *client) reload(ctx context.Context, _ *command) (object, error) {
	reloaded, err := c.Reload(ctx)
	if err != nil {
		return nil, err
	}
	return object{
		"replaced":       list(reloaded.Replaced),
		"updated":        list(reloaded.Updated),
		"removed":        list(reloaded.Removed),
		"restart_needed": list(reloaded.RestartNeeded),
		"problems":       list(reloaded.Problems),
	}, nil
}

// tellEach writes an event for each value, until the error that ends them if one does.
func tellEach[V any](said *command, values iter.Seq2[V, error], objectOf func(V) object) error {
	for value, err := range values {
		if err != nil {
			return err
		}
		said.event(objectOf(value))
	}
	return nil
}

func (c *command) startOptions() []poolservice.StartOption {
	var options []poolservice.StartOption
	if c.RuntimeModel != nil {
		options = append(options, poolservice.WithRuntimeModel(*c.RuntimeModel))
	}
	if c.KeepAlive != nil {
		options = append(options, poolservice.WithKeepAlive(seconds(*c.KeepAlive)))
	}
	if c.Download != nil {
		options = append(options, poolservice.WithDownload(*c.Download))
	}
	return options
}

func (c *command) ensureOptions() []poolservice.EnsureOption {
	var options []poolservice.EnsureOption
	for _, option := range c.startOptions() {
		options = append(options, option)
	}
	if c.Progress {
		options = append(options, poolservice.WithProgress(func(server poolservice.Server) {
			c.event(object{"server": serverObject(server)})
		}))
	}
	return options
}

func (c *command) holdOptions() []poolservice.HoldOption {
	var options []poolservice.HoldOption
	for _, option := range c.startOptions() {
		options = append(options, option)
	}
	if c.Holder != nil {
		options = append(options, poolservice.WithHolder(*c.Holder))
	}
	return options
}

func (c *command) logOptions() []poolservice.LogOption {
	var options []poolservice.LogOption
	if c.Generation != nil {
		options = append(options, poolservice.WithGeneration(*c.Generation))
	}
	if c.Previous {
		options = append(options, poolservice.WithPrevious())
	}
	if c.Oldest {
		options = append(options, poolservice.WithOldest())
	}
	if c.Cursor != nil {
		options = append(options, poolservice.WithCursor(*c.Cursor))
	}
	if c.Lines != nil {
		options = append(options, poolservice.WithLines(*c.Lines))
	}
	if c.Follow {
		options = append(options, poolservice.WithFollow())
	}
	return options
}

func (c *command) pullOptions() []poolservice.PullOption {
	if c.RuntimeModel == nil {
		return nil
	}
	return []poolservice.PullOption{poolservice.WithRuntimeModel(*c.RuntimeModel)}
}
