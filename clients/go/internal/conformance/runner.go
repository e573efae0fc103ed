package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"sync"
	"time"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

// object is a JSON object that is written.
type object map[string]any

// id is what a command is called by, as it came.
type id string

// UnmarshalJSON keeps any JSON.
func (i *id) UnmarshalJSON(text []byte) error {
	*i = id(text)
	return nil
}

// MarshalJSON is what UnmarshalJSON kept.
func (i id) MarshalJSON() ([]byte, error) { return []byte(i), nil }

// command is a line of the input.
type command struct {
	ID           id           `json:"id"`
	Op           string       `json:"op"`
	Address      string       `json:"address"`
	Attempts     int          `json:"attempts"`
	Patience     *float64     `json:"patience"`
	Token        *string      `json:"token"`
	TokenFile    *string      `json:"token_file"`
	CA           string       `json:"ca"`
	Cert         string       `json:"cert"`
	Key          string       `json:"key"`
	ServerName   string       `json:"server_name"`
	Start        *[]string    `json:"start"`
	Program      string       `json:"program"`
	StartTimeout *float64     `json:"start_timeout"`
	Client       id           `json:"client"`
	Model        string       `json:"model"`
	RuntimeModel *string      `json:"runtime_model"`
	KeepAlive    *float64     `json:"keep_alive"`
	Download     *bool        `json:"download"`
	Progress     bool         `json:"progress"`
	Holder       *string      `json:"holder"`
	Timeout      *float64     `json:"timeout"`
	Check        bool         `json:"check"`
	Idle         bool         `json:"idle"`
	All          bool         `json:"all"`
	Force        bool         `json:"force"`
	Found        bool         `json:"found"`
	Pinned       *bool        `json:"pinned"`
	PageSize     int          `json:"page_size"`
	Revision     *uint64      `json:"after_revision"`
	Generation   *uint64      `json:"generation"`
	Previous     bool         `json:"previous"`
	Oldest       bool         `json:"oldest"`
	Cursor       *string      `json:"cursor"`
	Lines        *uint32      `json:"lines"`
	Follow       bool         `json:"follow"`
	Hold         id           `json:"hold"`
	After        *uint64      `json:"after"`
	Count        int          `json:"count"`
	Text         string       `json:"text"`
	Parallel     int          `json:"parallel"`
	Target       id           `json:"target"`
	event        func(object) // writes an event of this command
}

// operation is what is done beside other commands.
type operation func(context.Context) (object, error)

// runner keeps what commands name by their ids.
type runner struct {
	output  output
	holds   map[id]*hold
	running sync.WaitGroup

	mutex   sync.Mutex // guards clients and cancels
	clients map[id]*client
	cancels map[id]context.CancelFunc
}

func newRunner(writer io.Writer) *runner {
	return &runner{
		output:  output{writer: writer},
		clients: map[id]*client{},
		holds:   map[id]*hold{},
		cancels: map[id]context.CancelFunc{},
	}
}

// end closes all clients, with which everything under way ends.
func (r *runner) end() {
	r.mutex.Lock()
	for _, client := range r.clients {
		_ = client.Close()
	}
	for _, cancel := range r.cancels { // a start of a service has no client yet
		cancel()
	}
	r.mutex.Unlock()
	r.running.Wait()
}

// obey begins what a line says. What later lines may name is there when it returns.
func (r *runner) obey(line []byte) error {
	var said command
	if err := json.Unmarshal(line, &said); err != nil {
		return fmt.Errorf("no command: %s: %w", line, err)
	}
	said.event = func(event object) { r.output.line(object{"id": said.ID, "event": event}) }
	// The context of a hold goes on when its wait is over, and has no limit.
	ctx, cancel := context.WithCancel(context.Background())
	do, err := r.operation(ctx, &said)
	if err != nil {
		cancel()
		r.output.line(object{"id": said.ID, "error": errorObject(err)})
		return nil
	}
	r.mutex.Lock()
	r.cancels[said.ID] = cancel
	r.mutex.Unlock()
	r.running.Go(func() { r.perform(ctx, &said, do) })
	return nil
}

func (r *runner) perform(ctx context.Context, said *command, do operation) {
	limited := ctx
	if said.Timeout != nil {
		var done context.CancelFunc
		limited, done = context.WithTimeout(ctx, seconds(*said.Timeout))
		defer done()
	}
	result, err := do(limited)
	r.cancel(said.ID)
	if err != nil {
		r.output.line(object{"id": said.ID, "error": errorObject(err)})
		return
	}
	r.output.line(object{"id": said.ID, "result": result})
}

// cancel gives a command up, if it is under way.
func (r *runner) cancel(command id) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	if cancel, ok := r.cancels[command]; ok {
		cancel()
		delete(r.cancels, command)
	}
}

func (r *runner) operation(ctx context.Context, said *command) (operation, error) {
	switch said.Op {
	case "connect":
		return r.connect(said)
	case "cancel":
		return func(context.Context) (object, error) {
			r.cancel(said.Target)
			return object{}, nil
		}, nil
	case "ready", "release", "infer":
		hold, known := r.holds[said.Hold]
		if !known {
			return nil, fmt.Errorf("%s: there is no hold %s", said.Op, said.Hold)
		}
		return hold.operation(said), nil
	}
	client, known := r.client(said.Client)
	if !known {
		return nil, fmt.Errorf("%s: there is no client %s", said.Op, said.Client)
	}
	if said.Op == "hold" {
		held := &hold{Hold: client.Hold(ctx, said.Model, said.holdOptions()...)}
		r.holds[said.ID] = held
		return held.tell(said), nil
	}
	return client.operation(said)
}

func (r *runner) client(named id) (*client, bool) {
	r.mutex.Lock()
	defer r.mutex.Unlock()
	client, known := r.clients[named]
	return client, known
}

// connect makes the client at once, unless that may start a service, which others need not wait for.
func (r *runner) connect(said *command) (operation, error) {
	if said.Start != nil {
		return func(ctx context.Context) (object, error) { return object{}, r.addClient(ctx, said) }, nil
	}
	if err := r.addClient(context.Background(), said); err != nil {
		return nil, err
	}
	return func(context.Context) (object, error) { return object{}, nil }, nil
}

func (r *runner) addClient(ctx context.Context, said *command) error {
	policy := poolservice.RetryPolicy{Attempts: said.Attempts}
	if said.Patience != nil {
		policy.Patience = seconds(*said.Patience)
		if policy.Patience == 0 {
			policy.Patience = -1
		}
	}
	client, err := newClient(ctx, said, policy)
	if err != nil {
		return err
	}
	r.mutex.Lock()
	defer r.mutex.Unlock()
	r.clients[said.ID] = client
	return nil
}

// seconds is the longest duration there is where that is not enough.
func seconds(count float64) time.Duration {
	nanoseconds := count * float64(time.Second)
	switch {
	case nanoseconds >= math.MaxInt64:
		return math.MaxInt64
	case nanoseconds <= math.MinInt64:
		return math.MinInt64
	default:
		return time.Duration(math.Round(nanoseconds))
	}
}
