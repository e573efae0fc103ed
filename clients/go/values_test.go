package poolservice

import (
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func TestAnEnumThatIsNotKnownKeepsItsNumber(t *testing.T) {
	server := serverOf(&pb.Server{State: 17, ExpectedBy: 18, LastExit: &pb.Exit{Cause: 19}, Role: 20})
	if server.State != 17 || server.State.String() != "17" {
		t.Error(server.State)
	}
	if server.Role != 20 || server.Role.String() != "20" {
		t.Error(server.Role)
	}
	if server.ExpectedBy.String() != "18" || server.LastExit.Cause.String() != "19" {
		t.Error(server.ExpectedBy, server.LastExit.Cause)
	}
}

func TestEnumsHaveTheNamesOfTheProtocolWithoutTheirPrefix(t *testing.T) {
	names := StateBackingOff.String() + " " + RoleSuperseded.String() + " " + CauseStartTimeout.String() + " " + ExpectationWeights.String()
	if names != "BACKING_OFF SUPERSEDED START_TIMEOUT WEIGHTS" {
		t.Error(names)
	}
	if events := EventChanged.String() + EventRemoved.String() + EventSynced.String() + EventKind(9).String(); events != "changedremovedsynced9" {
		t.Error(events)
	}
}

func TestWhatTheServiceDidNotSayIsAbsent(t *testing.T) {
	server := serverOf(&pb.Server{})
	if !server.CreateTime.IsZero() || !server.ExpireTime.IsZero() || server.Progress != nil || server.LastExit != nil {
		t.Errorf("%+v", server)
	}
	exit := exitOf(&pb.Exit{})
	if exit.Code != nil || exit.Signal != nil || !exit.Time.IsZero() {
		t.Errorf("%+v", exit)
	}
	if totals := totalsOf(nil); totals.MemoryBudgetBytes != nil {
		t.Errorf("%+v", totals)
	}
	if model := modelOf(&pb.Model{}); model.OnDisk != nil {
		t.Errorf("%+v", model)
	}
}

func TestWhatTheServiceSaidIsThereThoughItIsZero(t *testing.T) {
	epoch := &timestamppb.Timestamp{}
	server := serverOf(&pb.Server{
		CreateTime: epoch,
		Progress:   new(0.0),
		LastExit:   &pb.Exit{Code: new(int32(0)), Time: epoch},
	})
	if !server.CreateTime.Equal(time.Unix(0, 0)) || server.CreateTime.Location() != time.UTC {
		t.Error(server.CreateTime)
	}
	if *server.Progress != 0 || *server.LastExit.Code != 0 || server.LastExit.Signal != nil {
		t.Errorf("%+v", server)
	}
	if totals := totalsOf(&pb.PoolTotals{MemoryBudgetBytes: new(uint64(0))}); *totals.MemoryBudgetBytes != 0 {
		t.Errorf("%+v", totals)
	}
	if model := modelOf(&pb.Model{OnDisk: new(false)}); *model.OnDisk {
		t.Errorf("%+v", model)
	}
}

func TestTheBaseURLIsTheEndpointWithItsVersionAndNothingWithoutOne(t *testing.T) {
	server := serverOf(&pb.Server{Endpoint: "http://127.0.0.1:49321", EmbeddingModelName: "small", Host: "mini"})
	if server.Host != "mini" {
		t.Errorf("%q", server.Host)
	}
	if server.BaseURL() != "http://127.0.0.1:49321/v1" || server.EmbeddingModelName != "small" {
		t.Errorf("%q, %q", server.BaseURL(), server.EmbeddingModelName)
	}
	if none := serverOf(&pb.Server{}); none.BaseURL() != "" || none.EmbeddingModelName != "" {
		t.Errorf("%q, %q", none.BaseURL(), none.EmbeddingModelName)
	}
}

func TestAValueHasTheMessageThatItWasMadeOf(t *testing.T) {
	message := &pb.Server{Model: "m"}
	message.ProtoReflect().SetUnknown([]byte{0xf8, 0x3f, 1}) // field 1023: 1
	if got := serverOf(message).Message.ProtoReflect().GetUnknown(); len(got) != 3 {
		t.Error(got)
	}
}
