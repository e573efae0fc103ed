package poolservice

import (
	"errors"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func at(seconds int64) *timestamppb.Timestamp {
	return &timestamppb.Timestamp{Seconds: seconds}
}

func TestDescribeNamesTheModelAndIsRetried(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Describe", fail(refusal(codes.Unavailable, "RECOVERING", after(time.Second))))
		service.answer("Describe", say(&pb.DescribeResponse{Model: "m"}))
		got, err := service.client(t).Describe(t.Context(), "alias")
		if err != nil || got.Model != "m" || !proto.Equal(got.Message, &pb.DescribeResponse{Model: "m"}) {
			t.Error(got, err)
		}
		asked := service.requests("Describe")
		if len(asked) != 2 || !proto.Equal(asked[1], &pb.DescribeRequest{Model: "alias"}) {
			t.Error(asked)
		}
	})
}

func TestARefusedDescriptionIsTheError(t *testing.T) {
	inVirtualTime(t, func(t *testing.T, service *scripted) {
		service.answer("Describe", fail(refusal(codes.NotFound, "MODEL_UNKNOWN")))
		got, err := service.client(t).Describe(t.Context(), "m")
		if !errors.Is(err, ErrModelUnknown) || got.Message != nil {
			t.Error(got, err)
		}
	})
}

func TestADescriptionOfNothingHasNoValues(t *testing.T) {
	got := descriptionOf(&pb.DescribeResponse{})
	if got.OnDisk != nil || got.UsualLoad != nil || got.LastExit != nil || got.CrashWindow != 0 {
		t.Errorf("%+v", got)
	}
	if !got.QueueTime.IsZero() || !got.RetryTime.IsZero() || got.ExpectedBy != ExpectationUnspecified {
		t.Errorf("%+v", got)
	}
}

func TestADescriptionHasTheSettingsAndTheServersOfTheModel(t *testing.T) {
	got := descriptionOf(&pb.DescribeResponse{
		Settings:    []*pb.Setting{{Key: "keep_alive", Value: "1h", Source: "default", Running: "2h"}},
		Servers:     []*pb.Server{{Model: "m", Generation: 3}},
		OnDisk:      new(false),
		UsualLoad:   durationpb.New(1500 * time.Millisecond),
		LastExit:    &pb.Exit{Cause: pb.ExitCause_EXIT_CAUSE_IDLE},
		CrashTimes:  []*timestamppb.Timestamp{at(8), {Nanos: -1}}, // the second one is no time
		CrashWindow: durationpb.New(time.Minute),
	})
	if want := (Setting{"keep_alive", "1h", "default", "2h"}); got.Settings[0] != want {
		t.Error(got.Settings)
	}
	if got.Servers[0].Generation != 3 || *got.OnDisk || got.LastExit.Cause != CauseIdle {
		t.Errorf("%+v", got)
	}
	if *got.UsualLoad != 1500*time.Millisecond || got.CrashWindow != time.Minute {
		t.Error(*got.UsualLoad, got.CrashWindow)
	}
	if len(got.CrashTimes) != 1 || got.CrashTimes[0].Unix() != 8 {
		t.Error(got.CrashTimes)
	}
}

func TestARunHasTheTimesOfItsStages(t *testing.T) {
	got := runOf(&pb.Run{
		Generation: 3,
		Origin:     pb.RunOrigin_RUN_ORIGIN_STANDBY,
		CreateTime: at(1),
		AdmitTime:  at(2),
		StartTime:  at(3),
		ReadyTime:  at(4),
		StopTime:   at(5),
		EndTime:    at(6),
		Exit:       &pb.Exit{Cause: pb.ExitCause_EXIT_CAUSE_IDLE},
		PeakBytes:  7,
		Load:       durationpb.New(1500 * time.Millisecond),
	})
	if *got.Load != 1500*time.Millisecond || runOf(&pb.Run{}).Load != nil {
		t.Error(*got.Load)
	}
	if got.Generation != 3 || got.PeakBytes != 7 || got.Exit.Cause != CauseIdle {
		t.Errorf("%+v", got)
	}
	stages := []time.Time{got.CreateTime, got.AdmitTime, got.StartTime, got.ReadyTime, got.StopTime, got.EndTime}
	for i, stage := range stages {
		if stage.Unix() != int64(i+1) {
			t.Errorf("stage %d was at %v", i, stage)
		}
	}
	if got.Origin != OriginStandby || got.Origin.String() != "STANDBY" || RunOrigin(17).String() != "17" {
		t.Error(got.Origin)
	}
	if started := runOf(&pb.Run{StartTime: at(1)}); !started.ReadyTime.IsZero() || started.Exit != nil {
		t.Errorf("%+v", started)
	}
}

func TestADescriptionHasTheCallersOfTheModel(t *testing.T) {
	got := descriptionOf(&pb.DescribeResponse{
		Holders:      []*pb.Holder{{Label: "first", Since: at(1)}},
		Holds:        7,
		Waiting:      []*pb.WaitingCall{{Since: at(2), Hold: true, Holder: "second", Own: true}},
		WaitingCalls: 8,
		QueueTime:    at(4),
		RetryTime:    at(5),
	})
	if want := (Holder{"first", time.Unix(1, 0).UTC()}); got.Holders[0] != want || got.Holds != 7 {
		t.Errorf("%+v", got)
	}
	want := WaitingCall{Since: time.Unix(2, 0).UTC(), Hold: true, Holder: "second", Own: true}
	if got.Waiting[0] != want || got.WaitingCalls != 8 {
		t.Errorf("%+v", got)
	}
	if got.QueueTime.Unix() != 4 || got.RetryTime.Unix() != 5 {
		t.Errorf("%+v", got)
	}
}

func TestADecisionHasItsFigures(t *testing.T) {
	other := &pb.EvictionCandidate{
		Model: "other", Generation: 2, Busy: true, FreedBytes: 5, RetentionSeconds: 1.5, ResideTime: at(9)}
	got := descriptionOf(&pb.DescribeResponse{
		NextToGo: []*pb.EvictionCandidate{other},
		Decisions: []*pb.Decision{{
			Time:       at(3),
			Generation: 1,
			Role:       pb.ServerRole_SERVER_ROLE_CURRENT,
			Before:     pb.ServerState_SERVER_STATE_QUEUED,
			After:      pb.ServerState_SERVER_STATE_STARTING,
			Why:        "it fits",
			Event:      "MemorySampled",
			Choice: &pb.Choice{
				NeededBytes: 4, BudgetBytes: new(uint64(0)), ReservedBytes: 6,
				Chosen: []*pb.EvictionCandidate{other},
			},
		}, {}},
	})
	candidate := EvictionCandidate{
		Model: "other", Generation: 2, Busy: true, FreedBytes: 5, RetentionSeconds: 1.5,
		ResideTime: time.Unix(9, 0).UTC()}
	decision := got.Decisions[0]
	choice := decision.Choice
	if got.NextToGo[0] != candidate || choice.Chosen[0] != candidate || len(choice.PassedOver) != 0 {
		t.Errorf("%+v", got)
	}
	if choice.NeededBytes != 4 || *choice.BudgetBytes != 0 || choice.ReservedBytes != 6 || choice.AvailableBytes != nil {
		t.Errorf("%+v", choice)
	}
	decision.Choice = nil
	if want := (Decision{
		Time: time.Unix(3, 0).UTC(), Generation: 1, Role: RoleCurrent, Before: StateQueued,
		After: StateStarting, Why: "it fits", Event: "MemorySampled",
	}); decision != want {
		t.Errorf("%+v", decision)
	}
	if got.Decisions[1].Choice != nil {
		t.Errorf("%+v", got.Decisions[1])
	}
}
