package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"sync"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

// Each request has a connection of its own: else one that a dead server left would look like
// a request that it lost.
var inference = &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}

// hold remembers the servers that it told of, for commands that name them by generation.
type hold struct {
	*poolservice.Hold
	told sync.Map // of poolservice.Server by generation
}

func (h *hold) operation(said *command) operation {
	return func(ctx context.Context) (object, error) {
		switch said.Op {
		case "ready":
			return h.ready(ctx, said)
		case "infer":
			return h.infer(ctx, said)
		default:
			h.Close()
			return object{}, nil
		}
	}
}

// tell writes the states until the hold ends.
func (h *hold) tell(said *command) operation {
	return func(context.Context) (object, error) {
		// What ends the context of the hold ends the hold.
		states := h.States(context.Background())
		return object{}, tellEach(said, states, func(server poolservice.Server) object {
			return object{"server": serverObject(server)}
		})
	}
}

func (h *hold) ready(ctx context.Context, said *command) (object, error) {
	server, err := h.readyAfter(ctx, said.After)
	if err != nil {
		return nil, err
	}
	h.told.Store(server.Generation, server)
	return object{"server": serverObject(server)}, nil
}

func (h *hold) readyAfter(ctx context.Context, generation *uint64) (poolservice.Server, error) {
	if generation == nil {
		return h.Ready(ctx)
	}
	if told, known := h.told.Load(*generation); known {
		return h.ReadyAfter(ctx, told.(poolservice.Server))
	}
	return h.ReadyAfter(ctx, poolservice.Server{Generation: *generation})
}

// infer asks the endpoint `count` times, at most `parallel` at once.
func (h *hold) infer(ctx context.Context, said *command) (object, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var mutex sync.Mutex
	var asking sync.WaitGroup
	done, failed := 0, 0
	turns := make(chan struct{}, max(said.Parallel, 1))
	for range said.Count {
		turns <- struct{}{}
		asking.Go(func() {
			defer func() { <-turns }()
			lost, err := h.ask(ctx, said.Text)
			mutex.Lock()
			defer mutex.Unlock()
			switch {
			case err != nil:
				cancel(err)
			case lost != nil:
				fmt.Fprintln(os.Stderr, "runner:", lost)
				failed++
			default:
				done++
				said.event(object{"done": done})
			}
		})
	}
	asking.Wait()
	if ctx.Err() != nil {
		return nil, context.Cause(ctx)
	}
	return object{"done": done, "failed": failed}, nil
}

// ask makes one completion. lost is why there is none; err what ended the hold or the wait.
func (h *hold) ask(ctx context.Context, text string) (lost, err error) {
	server, err := h.Ready(ctx)
	for err == nil {
		lost = complete(ctx, server, text)
		var refused *net.OpError
		if !errors.As(lost, &refused) || refused.Op != "dial" || ctx.Err() != nil {
			return lost, nil
		}
		server, err = h.ReadyAfter(ctx, server)
	}
	return nil, err
}

func complete(ctx context.Context, server poolservice.Server, text string) error {
	body, err := json.Marshal(object{
		"model":    server.ServedModelName,
		"messages": []object{{"role": "user", "content": text}},
	})
	if err != nil {
		return err
	}
	url := server.BaseURL() + "/chat/completions"
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Authorization", "Bearer "+string(server.APIKey))
	response, err := inference.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	var completion struct {
		Choices []json.RawMessage `json:"choices"`
	}
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answered %s: %s", url, response.Status, answer)
	}
	if err := json.Unmarshal(answer, &completion); err != nil || len(completion.Choices) == 0 {
		return fmt.Errorf("%s answered no completion: %s", url, answer)
	}
	return nil
}
