package poolservice

import (
	"time"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

func descriptionOf(message *pb.DescribeResponse) Description {
	return Description{
		Model:              message.GetModel(),
		Aliases:            message.GetAliases(),
		Listed:             message.GetListed(),
		Settings:           each(message.GetSettings(), settingOf),
		Servers:            each(message.GetServers(), serverOf),
		ExpectedBytes:      message.GetExpectedBytes(),
		ExpectedBy:         Expectation(message.GetExpectedBy()),
		OnDisk:             message.OnDisk,
		DiskBytes:          message.GetDiskBytes(),
		UsualLoad:          durationOf(message.GetUsualLoad()),
		Problem:            message.GetProblem(),
		Runs:               each(message.GetRuns(), runOf),
		LastExit:           exitOf(message.GetLastExit()),
		Holders:            each(message.GetHolders(), holderOf),
		Holds:              message.GetHolds(),
		Waiting:            each(message.GetWaiting(), waitingCallOf),
		WaitingCalls:       message.GetWaitingCalls(),
		QueueTime:          timeOf(message.GetQueueTime()),
		NextToGo:           each(message.GetNextToGo(), candidateOf),
		EvictionPosition:   message.GetEvictionPosition(),
		EvictionCandidates: message.GetEvictionCandidates(),
		KeptBecause:        message.GetKeptBecause(),
		CrashTimes:         timesOf(message.GetCrashTimes()),
		CrashLimit:         message.GetCrashLimit(),
		CrashWindow:        message.GetCrashWindow().AsDuration(),
		RetryTime:          timeOf(message.GetRetryTime()),
		FailureReason:      message.GetFailureReason(),
		FailureMessage:     message.GetFailureMessage(),
		Decisions:          each(message.GetDecisions(), decisionOf),
		Message:            message,
	}
}

func settingOf(message *pb.Setting) Setting {
	return Setting{
		Key:     message.GetKey(),
		Value:   message.GetValue(),
		Source:  message.GetSource(),
		Running: message.GetRunning(),
	}
}

func runOf(message *pb.Run) Run {
	return Run{
		Generation: message.GetGeneration(),
		Origin:     RunOrigin(message.GetOrigin()),
		CreateTime: timeOf(message.GetCreateTime()),
		AdmitTime:  timeOf(message.GetAdmitTime()),
		StartTime:  timeOf(message.GetStartTime()),
		ReadyTime:  timeOf(message.GetReadyTime()),
		StopTime:   timeOf(message.GetStopTime()),
		EndTime:    timeOf(message.GetEndTime()),
		Exit:       exitOf(message.GetExit()),
		PeakBytes:  message.GetPeakBytes(),
		Load:       durationOf(message.GetLoad()),
	}
}

func holderOf(message *pb.Holder) Holder {
	return Holder{Label: message.GetLabel(), Since: timeOf(message.GetSince())}
}

func waitingCallOf(message *pb.WaitingCall) WaitingCall {
	return WaitingCall{
		Since:  timeOf(message.GetSince()),
		Hold:   message.GetHold(),
		Holder: message.GetHolder(),
		Own:    message.GetOwn(),
	}
}

func candidateOf(message *pb.EvictionCandidate) EvictionCandidate {
	return EvictionCandidate{
		Model:            message.GetModel(),
		Generation:       message.GetGeneration(),
		Busy:             message.GetBusy(),
		FreedBytes:       message.GetFreedBytes(),
		RetentionSeconds: message.GetRetentionSeconds(),
		ResideTime:       timeOf(message.GetResideTime()),
	}
}

func decisionOf(message *pb.Decision) Decision {
	return Decision{
		Time:       timeOf(message.GetTime()),
		Generation: message.GetGeneration(),
		Role:       ServerRole(message.GetRole()),
		Before:     ServerState(message.GetBefore()),
		After:      ServerState(message.GetAfter()),
		Why:        message.GetWhy(),
		Event:      message.GetEvent(),
		Choice:     choiceOf(message.GetChoice()),
	}
}

func choiceOf(message *pb.Choice) *Choice {
	if message == nil {
		return nil
	}
	return &Choice{
		NeededBytes:    message.GetNeededBytes(),
		BudgetBytes:    message.BudgetBytes,
		ReservedBytes:  message.GetReservedBytes(),
		AvailableBytes: message.AvailableBytes,
		Chosen:         each(message.GetChosen(), candidateOf),
		PassedOver:     each(message.GetPassedOver(), candidateOf),
	}
}

// durationOf returns nil for a duration that is not there.
func durationOf(message *durationpb.Duration) *time.Duration {
	if message == nil {
		return nil
	}
	length := message.AsDuration()
	return &length
}

// timesOf leaves out what is no time.
func timesOf(messages []*timestamppb.Timestamp) []time.Time {
	var times []time.Time
	for _, message := range messages {
		if message.IsValid() {
			times = append(times, message.AsTime())
		}
	}
	return times
}
