package main

import (
	"context"
	"errors"
	"strconv"
	"time"

	"google.golang.org/grpc/codes"

	poolservice "github.com/pool-service/pool-service/clients/go"
)

func serverObject(server poolservice.Server) object {
	return object{
		"model":                server.Model,
		"runtime_model":        server.RuntimeModel,
		"state":                enum(server.State),
		"generation":           server.Generation,
		"role":                 enum(server.Role),
		"endpoint":             server.Endpoint,
		"base_url":             server.BaseURL(),
		"served_model_name":    server.ServedModelName,
		"embedding_model_name": server.EmbeddingModelName,
		"pid":                  server.PID,
		"create_time":          since1970(server.CreateTime),
		"start_time":           since1970(server.StartTime),
		"ready_time":           since1970(server.ReadyTime),
		"last_use_time":        since1970(server.LastUseTime),
		"expire_time":          since1970(server.ExpireTime),
		"expected_ready_time":  since1970(server.ExpectedReadyTime),
		"detail":               server.Detail,
		"last_exit":            exitObject(server.LastExit),
		"log_path":             server.LogPath,
		"queue_position":       server.QueuePosition,
		"progress":             server.Progress,
		"expected_bytes":       server.ExpectedBytes,
		"expected_by":          enum(server.ExpectedBy),
		"footprint_bytes":      server.FootprintBytes,
		"peak_bytes":           server.PeakBytes,
		"holds":                server.Holds,
		"pinned":               server.Pinned,
		"outdated":             server.Outdated,
		"prompt_cache":         promptCacheObject(server.PromptCache),
		"host":                 server.Host,
		"api_key":              string(server.APIKey),
	}
}

func promptCacheObject(cache *poolservice.PromptCache) object {
	if cache == nil {
		return nil
	}
	return object{
		"disk_bytes":    cache.DiskBytes,
		"tokens":        cache.Tokens,
		"reused_tokens": cache.ReusedTokens,
		"max_bytes":     cache.MaxBytes,
	}
}

func exitObject(exit *poolservice.Exit) object {
	if exit == nil {
		return nil
	}
	return object{
		"generation": exit.Generation,
		"code":       exit.Code,
		"signal":     exit.Signal,
		"cause":      enum(exit.Cause),
		"message":    exit.Message,
		"last_lines": list(exit.LastLines),
		"time":       since1970(exit.Time),
	}
}

func modelObject(model poolservice.Model) object {
	return object{
		"model":          model.Model,
		"aliases":        list(model.Aliases),
		"runtime_model":  model.RuntimeModel,
		"runtime":        model.Runtime,
		"groups":         list(model.Groups),
		"pinned":         model.Pinned,
		"preload":        model.Preload,
		"expected_bytes": model.ExpectedBytes,
		"expected_by":    enum(model.ExpectedBy),
		"on_disk":        model.OnDisk,
		"problem":        model.Problem,
		"disk_bytes":     model.DiskBytes,
		"state":          stateOrNil(model.State),
		"listed":         model.Listed,
	}
}

func totalsObject(totals poolservice.Totals) object {
	return object{
		"servers":                totals.Servers,
		"queued":                 totals.Queued,
		"starting":               totals.Starting,
		"ready":                  totals.Ready,
		"stopping":               totals.Stopping,
		"failed":                 totals.Failed,
		"waiting_calls":          totals.WaitingCalls,
		"backing_off":            totals.BackingOff,
		"memory_budget_bytes":    totals.MemoryBudgetBytes,
		"memory_reserved_bytes":  totals.MemoryReservedBytes,
		"memory_available_bytes": totals.MemoryAvailableBytes,
		"memory_total_bytes":     totals.MemoryTotalBytes,
		"memory_pressured":       totals.MemoryPressured,
		"standbys":               totals.Standbys,
	}
}

// enum is the name, or the number where the client knows no name.
func enum(value interface{ String() string }) any {
	if number, err := strconv.Atoi(value.String()); err == nil {
		return number
	}
	return value.String()
}

func stateOrNil(state poolservice.ServerState) any {
	if state == poolservice.StateUnspecified {
		return nil
	}
	return enum(state)
}

func since1970(when time.Time) any {
	if when.IsZero() {
		return nil
	}
	return float64(when.UnixNano()) / float64(time.Second)
}

// list is never null.
func list(values []string) []string {
	if values == nil {
		return []string{}
	}
	return values
}

// errorObject is the client's error, or what the runner itself could not do.
func errorObject(err error) object {
	var failed *poolservice.Error
	switch {
	case errors.As(err, &failed):
	case errors.Is(err, context.Canceled):
		failed = &poolservice.Error{
			Kind: poolservice.ErrCancelled, Code: codes.Canceled, Message: "it was given up"}
	default:
		failed = &poolservice.Error{Code: codes.InvalidArgument, Message: err.Error()}
	}
	kind := string(failed.Kind)
	switch failed.Kind {
	case poolservice.ErrInternal:
		kind = "Internal"
	case "":
		kind = "PoolError"
	}
	violations := []object{}
	for _, one := range failed.Violations {
		violations = append(violations,
			object{"subject": one.Subject, "description": one.Description, "kind": one.Kind})
	}
	return object{
		"kind":        kind,
		"code":        codeName(failed.Code),
		"reason":      failed.Reason,
		"message":     failed.Error(),
		"retry_after": inSeconds(failed.RetryAfter),
		"metadata":    metadata(failed),
		"last_lines":  list(failed.LastLines),
		"violations":  violations,
		"request_id":  failed.RequestID,
	}
}

func metadata(failed *poolservice.Error) map[string]string {
	if failed.Metadata == nil {
		return map[string]string{}
	}
	return failed.Metadata
}

func inSeconds(delay *time.Duration) any {
	if delay == nil {
		return nil
	}
	return delay.Seconds()
}
