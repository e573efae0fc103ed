package main

import (
	"context"
	"time"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

func (c *client) describe(ctx context.Context, said *command) (object, error) {
	described, err := c.Describe(ctx, said.Model)
	if err != nil {
		return nil, err
	}
	return descriptionObject(described), nil
}

func descriptionObject(described poolservice.Description) object {
	return object{
		"model":               described.Model,
		"aliases":             list(described.Aliases),
		"listed":              described.Listed,
		"settings":            objects(described.Settings, settingObject),
		"servers":             objects(described.Servers, serverObject),
		"expected_bytes":      described.ExpectedBytes,
		"expected_by":         enum(described.ExpectedBy),
		"on_disk":             described.OnDisk,
		"disk_bytes":          described.DiskBytes,
		"usual_load":          inSeconds(described.UsualLoad),
		"problem":             described.Problem,
		"runs":                objects(described.Runs, runObject),
		"last_exit":           exitObject(described.LastExit),
		"holders":             objects(described.Holders, holderObject),
		"holds":               described.Holds,
		"waiting":             objects(described.Waiting, waitingObject),
		"waiting_calls":       described.WaitingCalls,
		"queue_time":          since1970(described.QueueTime),
		"next_to_go":          objects(described.NextToGo, candidateObject),
		"eviction_position":   described.EvictionPosition,
		"eviction_candidates": described.EvictionCandidates,
		"kept_because":        described.KeptBecause,
		"crash_times":         objects(described.CrashTimes, func(when time.Time) any { return since1970(when) }),
		"crash_limit":         described.CrashLimit,
		"crash_window":        described.CrashWindow.Seconds(),
		"retry_time":          since1970(described.RetryTime),
		"failure_reason":      described.FailureReason,
		"failure_message":     described.FailureMessage,
		"decisions":           objects(described.Decisions, decisionObject),
	}
}

func settingObject(setting poolservice.Setting) object {
	return object{
		"key":     setting.Key,
		"value":   setting.Value,
		"source":  setting.Source,
		"running": setting.Running,
	}
}

func runObject(run poolservice.Run) object {
	return object{
		"generation":  run.Generation,
		"origin":      enum(run.Origin),
		"create_time": since1970(run.CreateTime),
		"admit_time":  since1970(run.AdmitTime),
		"start_time":  since1970(run.StartTime),
		"ready_time":  since1970(run.ReadyTime),
		"stop_time":   since1970(run.StopTime),
		"end_time":    since1970(run.EndTime),
		"exit":        exitObject(run.Exit),
		"peak_bytes":  run.PeakBytes,
		"load":        inSeconds(run.Load),
	}
}

func holderObject(holder poolservice.Holder) object {
	return object{"label": holder.Label, "since": since1970(holder.Since)}
}

func waitingObject(call poolservice.WaitingCall) object {
	return object{
		"since":  since1970(call.Since),
		"hold":   call.Hold,
		"holder": call.Holder,
		"own":    call.Own,
	}
}

func candidateObject(candidate poolservice.EvictionCandidate) object {
	return object{
		"model":             candidate.Model,
		"generation":        candidate.Generation,
		"busy":              candidate.Busy,
		"freed_bytes":       candidate.FreedBytes,
		"retention_seconds": candidate.RetentionSeconds,
		"reside_time":       since1970(candidate.ResideTime),
	}
}

func decisionObject(decision poolservice.Decision) object {
	return object{
		"time":       since1970(decision.Time),
		"generation": decision.Generation,
		"role":       enum(decision.Role),
		"before":     enum(decision.Before),
		"after":      enum(decision.After),
		"why":        decision.Why,
		"event":      decision.Event,
		"choice":     choiceObject(decision.Choice),
	}
}

func choiceObject(choice *poolservice.Choice) object {
	if choice == nil {
		return nil
	}
	return object{
		"needed_bytes":    choice.NeededBytes,
		"budget_bytes":    choice.BudgetBytes,
		"reserved_bytes":  choice.ReservedBytes,
		"available_bytes": choice.AvailableBytes,
		"chosen":          objects(choice.Chosen, candidateObject),
		"passed_over":     objects(choice.PassedOver, candidateObject),
	}
}

// objects is never null.
func objects[V, O any](values []V, objectOf func(V) O) []O {
	told := make([]O, len(values))
	for i, value := range values {
		told[i] = objectOf(value)
	}
	return told
}
