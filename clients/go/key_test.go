package poolservice

import (
	"bytes"
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

const key = "psk_secret"

func TestEnsureReturnsTheKeyWithTheServer(t *testing.T) {
	for _, key := range []string{key, ""} {
		inVirtualTime(t, func(t *testing.T, service *scripted) {
			service.answer("Ensure", say(&pb.EnsureResponse{Server: message(StateReady, 1), ApiKey: key}))
			ensured, err := service.client(t).Ensure(t.Context(), "m")
			if err != nil || string(ensured.Server.APIKey) != key {
				t.Error(string(ensured.Server.APIKey), err)
			}
		})
	}
}

func TestAHoldReturnsTheKeyOfTheServerThatIsReady(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		first := say(&pb.HoldResponse{Server: message(StateReady, 1), ApiKey: key})
		second := say(&pb.HoldResponse{Server: message(StateReady, 2), ApiKey: key + "-2"})
		service.answer("Hold", holds(StateStarting, 1), first, second, stay)
		hold := service.client(t).Hold(t.Context(), "m")
		defer hold.Close()
		server, err := hold.ReadyAfter(t.Context(), Server{Generation: 1, PID: 1001})
		if err != nil || string(server.APIKey) != key+"-2" {
			t.Error(string(server.APIKey), err)
		}
	})
}

func TestNoTextShowsAKey(t *testing.T) {
	server := keyed(message(StateReady, 1), key)
	ensured := Ensured{Server: server}
	var logged bytes.Buffer
	for _, handler := range []slog.Handler{
		slog.NewTextHandler(&logged, nil), slog.NewJSONHandler(&logged, nil),
	} {
		slog.New(handler).Info("x", "server", server, "key", server.APIKey, "all", ensured)
	}
	var shown []string
	for _, one := range []any{server, &server, ensured, []Server{server}, server.APIKey} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			shown = append(shown, fmt.Sprintf(verb, one))
		}
		text, err := json.Marshal(one)
		if err != nil {
			t.Fatal(err)
		}
		shown = append(shown, string(text))
	}
	all := strings.Join(append(shown, logged.String()), "\n")
	if hex := fmt.Sprintf("%x", key); strings.Contains(all, key) || strings.Contains(all, hex) {
		t.Error(all)
	}
	if !strings.Contains(all, "***") || fmt.Sprint(Secret("")) != "" {
		t.Error("it is not told whether there is a key")
	}
}
