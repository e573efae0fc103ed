package main

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"

	"google.golang.org/grpc"

	poolservice "github.com/pool-service/pool-service/clients/go"
	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

const isEngine = "TEST_IS_ENGINE"

func TestMain(m *testing.M) {
	if os.Getenv(isEngine) != "" { // a test has started this as the engine
		main()
		os.Exit(0)
	}
	os.Exit(m.Run())
}

const (
	head = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
	word = `data: {"id":"1","choices":[{"index":0,"delta":{"content":"word "}}]}` + "\n\n"
	last = `data: {"id":"1","choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}` + "\n\ndata: [DONE]\n\n"
	// part is the beginning of an answer that says where its end will be.
	part = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nContent-Length: 1000000\r\n\r\n" + word
)

// pool is a pool service with one model, and the server of that.
type pool struct {
	pb.UnimplementedPoolServiceServer

	mutex      sync.Mutex
	generation uint64
	listener   net.Listener
	changed    chan struct{}
	resets     int // how many requests for "reset" are to be reset; openai-go makes three by itself
}

// spawn starts the next process of the server, instead of the one that is there.
func (p *pool) spawn(t *testing.T) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p.mutex.Lock()
	defer p.mutex.Unlock()
	if p.listener != nil {
		_ = p.listener.Close()
	}
	p.listener = listener
	p.generation++
	close(p.changed)
	p.changed = make(chan struct{})
	go p.answer(t, listener)
}

// answer answers requests until the listener is closed.
func (p *pool) answer(t *testing.T, listener net.Listener) {
	for {
		connection, err := listener.Accept()
		if err != nil {
			return
		}
		request, err := http.ReadRequest(bufio.NewReader(connection))
		if err != nil {
			t.Error(err)
			continue
		}
		var asked struct {
			Messages []struct{ Content string }
		}
		if err := json.NewDecoder(request.Body).Decode(&asked); err != nil {
			t.Error(err)
		}
		p.say(t, connection.(*net.TCPConn), asked.Messages[0].Content)
	}
}

// say answers a prompt, which says how.
func (p *pool) say(t *testing.T, connection *net.TCPConn, prompt string) {
	defer func() { _ = connection.Close() }()
	answers := map[string]string{
		"cut":       part,
		"cut early": strings.TrimSuffix(part, word),
		"half":      head + word,
		"refuse":    "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
	}
	answer, odd := answers[prompt]
	switch {
	case prompt == "die": // before it answers; the next process says what this one would have
		if p.now().GetGeneration() == 1 {
			p.spawn(t)
			return
		}
	case prompt == "reset" && p.resets > 0:
		p.resets--
		_ = connection.SetLinger(0)
		return
	}
	if !odd {
		answer = head + word + word + last
	}
	_, _ = connection.Write([]byte(answer))
}

func (p *pool) now() *pb.Server {
	p.mutex.Lock()
	defer p.mutex.Unlock()
	return &pb.Server{
		Model: "m", ServedModelName: "served", State: pb.ServerState_SERVER_STATE_READY,
		Generation: p.generation, Endpoint: "http://" + p.listener.Addr().String(),
	}
}

func (p *pool) Hold(_ *pb.HoldRequest, stream grpc.ServerStreamingServer[pb.HoldResponse]) error {
	for {
		p.mutex.Lock()
		changed := p.changed
		p.mutex.Unlock()
		if err := stream.Send(&pb.HoldResponse{Server: p.now(), ApiKey: "key"}); err != nil {
			return err
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (p *pool) Get(context.Context, *pb.GetRequest) (*pb.GetResponse, error) {
	return &pb.GetResponse{Server: p.now(), Answers: true}, nil
}

// serve serves the pool until the test ends, and returns its address.
func (p *pool) serve(t *testing.T) string {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	server := grpc.NewServer()
	pb.RegisterPoolServiceServer(server, p)
	served := make(chan error)
	go func() { served <- server.Serve(listener) }()
	t.Cleanup(func() {
		server.Stop()
		<-served
		_ = p.listener.Close()
	})
	return listener.Addr().String()
}

// answered returns what the engine prints for each prompt.
func answered(t *testing.T, service *pool, prompts ...string) []string {
	t.Helper()
	itself, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	engine := exec.Command(itself, "m")
	engine.Env = append(os.Environ(), isEngine+"=1", poolservice.AddressVariable+"="+service.serve(t),
		"GORACE=atexit_sleep_ms=0")
	engine.Stdin = strings.NewReader(strings.Join(prompts, "\n") + "\n")
	engine.Stderr = os.Stderr
	printed, err := engine.Output()
	if err != nil {
		t.Error(err)
	}
	return strings.Split(strings.TrimSuffix(string(printed), "\n"), "\n")
}

func TestTheEngineGivesEachPromptOneLineWhateverBreaks(t *testing.T) {
	service := &pool{changed: make(chan struct{}), resets: 3}
	service.spawn(t)
	prompts := []string{"whole", "reset", "cut", "cut early", "half", "refuse", "die", "whole"}
	got := answered(t, service, prompts...)
	want := []string{
		"done word word ",
		"done word word ", // it had not begun, and was asked for again
		"lost unexpected EOF",
		"lost unexpected EOF",
		"lost unexpected EOF", // without a finish_reason
		"lost OpenAI API error: 400 Bad Request",
		"done word word ", // of the next process
		"done word word ",
	}
	if fmt.Sprintf("%q", got) != fmt.Sprintf("%q", want) {
		t.Errorf("got %q", got)
	}
}

func TestTheEngineHasThirtyLinesBesideItsImports(t *testing.T) {
	text, err := os.ReadFile("main.go")
	if err != nil {
		t.Fatal(err)
	}
	_, code, _ := strings.Cut(string(text), "\nfunc main() {")
	lines := 1
	for line := range strings.Lines(code) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "//") {
			lines++
		}
	}
	if lines > 30 {
		t.Errorf("it has %d", lines)
	}
}
