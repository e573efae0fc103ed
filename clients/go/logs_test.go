package poolservice

import (
	"errors"
	"slices"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func line(number uint64) step {
	text := strconv.FormatUint(number, 10)
	return say(&pb.TailLogsResponse{Generation: 1, Lines: []string{text}, Cursor: "c" + text})
}

var lost = fail(refusal(codes.Unavailable, "SHUTTING_DOWN"))

func logged(t *testing.T, pool *Client, options ...LogOption) ([]LogPart, error) {
	t.Helper()
	var parts []LogPart
	for part, err := range pool.Logs(t.Context(), "m", options...) {
		if err != nil {
			return parts, err
		}
		parts = append(parts, part)
	}
	return parts, nil
}

func linesOf(parts []LogPart) []string {
	var lines []string
	for _, part := range parts {
		lines = append(lines, part.Lines...)
	}
	return lines
}

func TestALogThatBreaksGoesOnAfterItsLastCursor(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("TailLogs", line(1), line(2), lost)
		service.answer("TailLogs", line(3))
		got, err := logged(t, service.client(t), WithPrevious(), WithLines(7))
		if err != nil || !slices.Equal(linesOf(got), []string{"1", "2", "3"}) {
			t.Errorf("got %v, %v", got, err)
		}
		seven := uint32(7)
		want := []*pb.TailLogsRequest{
			{Model: "m", Begin: &pb.TailLogsRequest_Previous{Previous: true}, Lines: &seven},
			{Model: "m", Begin: &pb.TailLogsRequest_Cursor{Cursor: "c2"}},
		}
		for i, request := range service.requests("TailLogs") {
			if !proto.Equal(request, want[i]) {
				t.Errorf("asked %v", request)
			}
		}
	})
}

func TestTheEndOfAProcessComesAfterItsLines(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		end := &pb.TailLogsResponse{Generation: 1, Ended: true, Exit: &pb.Exit{Message: "it crashed"}, Cursor: "e"}
		missed := &pb.TailLogsResponse{Generation: 2, MissedBytes: 9, Cursor: "m"}
		service.answer("TailLogs", line(1), say(end), say(&pb.TailLogsResponse{Cursor: "nothing"}), say(missed))
		got, err := logged(t, service.client(t))
		if err != nil || len(got) != 3 || got[0].Exit != nil || got[2].MissedBytes != 9 {
			t.Fatalf("got %v, %v", got, err)
		}
		if !got[1].Ended || got[1].Exit.Message != "it crashed" || got[1].Cursor != "e" {
			t.Errorf("got %v", got[1])
		}
	})
}

func TestOneThatFollowsOutlivesEveryBreakOfAnOpenStream(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		for number := range uint64(5) {
			service.answer("TailLogs", line(number), pause(time.Hour), lost)
		}
		service.answer("TailLogs", fail(refusal(codes.NotFound, "LOG_NOT_FOUND")))
		got, err := logged(t, service.client(t), WithFollow())
		if !errors.Is(err, ErrLogNotFound) || len(got) != 5 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}
