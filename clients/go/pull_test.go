package poolservice

import (
	"errors"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func bytesThere(done uint64) step {
	return say(&pb.PullResponse{DoneBytes: done, TotalBytes: 40})
}

var noNetwork = fail(refusal(codes.Unavailable, "FETCH_FAILED"))

func pulled(t *testing.T, pool *Client) ([]uint64, error) {
	t.Helper()
	var there []uint64
	for progress, err := range pool.Pull(t.Context(), "m", WithRuntimeModel("r")) {
		if err != nil {
			return there, err
		}
		if progress.TotalBytes != 40 {
			t.Errorf("got %v", progress)
		}
		there = append(there, progress.DoneBytes)
	}
	return there, nil
}

func TestADownloadThatBreaksIsResumedAndEndsWhenAllIsThere(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Pull", bytesThere(10), bytesThere(20), noNetwork)
		service.answer("Pull", bytesThere(20), bytesThere(40))
		got, err := pulled(t, service.client(t))
		if err != nil || !slices.Equal(got, []uint64{10, 20, 20, 40}) {
			t.Errorf("got %v, %v", got, err)
		}
		for _, request := range service.requests("Pull") {
			if !proto.Equal(request, &pb.PullRequest{Model: "m", RuntimeModel: "r"}) {
				t.Errorf("asked %v", request)
			}
		}
	})
}

func TestADownloadThatGetsFurtherIsANewBeginning(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		for done := uint64(0); done < 40; done += 10 {
			service.answer("Pull", bytesThere(done), pause(20*time.Second), bytesThere(done+5), noNetwork)
		}
		service.answer("Pull", bytesThere(35), pause(20*time.Second), noNetwork)
		got, err := pulled(t, service.client(t))
		if !errors.Is(err, ErrFetchFailed) || len(got) != 4*2+2 {
			t.Errorf("got %v, %v", got, err)
		}
	})
}

func TestLeavingTheLoopGivesADownloadUp(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Pull", bytesThere(10), stay)
		for range service.client(t).Pull(t.Context(), "m") {
			break
		}
		if service.streams() != 0 {
			t.Error("it goes on")
		}
	})
}
