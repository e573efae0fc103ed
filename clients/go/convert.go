package poolservice

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// keyed returns the server of an answer that has its key.
func keyed(message *pb.Server, key string) Server {
	server := serverOf(message)
	server.APIKey = Secret(key)
	return server
}

func serverOf(message *pb.Server) Server {
	return Server{
		Model:              message.GetModel(),
		RuntimeModel:       message.GetRuntimeModel(),
		State:              ServerState(message.GetState()),
		Generation:         message.GetGeneration(),
		Role:               ServerRole(message.GetRole()),
		Endpoint:           message.GetEndpoint(),
		ServedModelName:    message.GetServedModelName(),
		EmbeddingModelName: message.GetEmbeddingModelName(),
		PID:                message.GetPid(),
		CreateTime:         timeOf(message.GetCreateTime()),
		StartTime:          timeOf(message.GetStartTime()),
		ReadyTime:          timeOf(message.GetReadyTime()),
		LastUseTime:        timeOf(message.GetLastUseTime()),
		ExpireTime:         timeOf(message.GetExpireTime()),
		ExpectedReadyTime:  timeOf(message.GetExpectedReadyTime()),
		Detail:             message.GetDetail(),
		LastExit:           exitOf(message.GetLastExit()),
		LogPath:            message.GetLogPath(),
		QueuePosition:      message.GetQueuePosition(),
		Progress:           shareOf(message.Progress),
		ExpectedBytes:      message.GetExpectedBytes(),
		ExpectedBy:         Expectation(message.GetExpectedBy()),
		FootprintBytes:     message.GetFootprintBytes(),
		PeakBytes:          message.GetPeakBytes(),
		Holds:              message.GetHolds(),
		Pinned:             message.GetPinned(),
		Outdated:           message.GetOutdated(),
		PromptCache:        promptCacheOf(message.GetPromptCache()),
		Host:               message.GetHost(),
		Message:            message,
	}
}

func foundOf(response *pb.GetResponse) Found {
	found := Found{Answers: response.GetAnswers()}
	if response.GetServer() != nil {
		found.Server = new(serverOf(response.GetServer()))
	}
	return found
}

func promptCacheOf(message *pb.PromptCache) *PromptCache {
	if message == nil {
		return nil
	}
	return &PromptCache{
		DiskBytes:    message.GetDiskBytes(),
		Tokens:       message.GetTokens(),
		ReusedTokens: message.GetReusedTokens(),
		MaxBytes:     message.GetMaxBytes(),
	}
}

func exitOf(message *pb.Exit) *Exit {
	if message == nil {
		return nil
	}
	return &Exit{
		Generation: message.GetGeneration(),
		Code:       message.Code,
		Signal:     message.Signal,
		Cause:      ExitCause(message.GetCause()),
		Message:    message.GetMessage(),
		LastLines:  message.GetLastLines(),
		Time:       timeOf(message.GetTime()),
	}
}

func timeOf(message *timestamppb.Timestamp) time.Time {
	if !message.IsValid() { // not there, or not of this calendar
		return time.Time{}
	}
	return message.AsTime()
}

// shareOf returns nil for a value that is no share, such as NaN.
func shareOf(value *float64) *float64 {
	if value == nil || !(*value >= 0 && *value <= 1) {
		return nil
	}
	return value
}

func evictedOf(response *pb.EvictResponse) []EvictedServer {
	return each(response.GetEvicted(), func(one *pb.EvictedServer) EvictedServer {
		return EvictedServer{Server: serverOf(one.GetServer()), Killed: one.GetKilled()}
	})
}

func pageOf(response *pb.ListResponse) Page {
	return Page{
		Servers:  each(response.GetServers(), serverOf),
		Revision: response.GetRevision(),
		Totals:   totalsOf(response.GetTotals()),
		Notices:  response.GetNotices(),
	}
}

func totalsOf(message *pb.PoolTotals) Totals {
	totals := Totals{
		Servers:              message.GetServers(),
		Queued:               message.GetQueued(),
		Starting:             message.GetStarting(),
		Ready:                message.GetReady(),
		Stopping:             message.GetStopping(),
		Failed:               message.GetFailed(),
		BackingOff:           message.GetBackingOff(),
		WaitingCalls:         message.GetWaitingCalls(),
		MemoryReservedBytes:  message.GetMemoryReservedBytes(),
		MemoryAvailableBytes: message.GetMemoryAvailableBytes(),
		MemoryTotalBytes:     message.GetMemoryTotalBytes(),
		MemoryPressured:      message.GetMemoryPressured(),
		Standbys:             int(message.GetStandbys()),
	}
	if message != nil {
		totals.MemoryBudgetBytes = message.MemoryBudgetBytes
	}
	return totals
}

func modelOf(message *pb.Model) Model {
	return Model{
		Model:         message.GetModel(),
		Aliases:       message.GetAliases(),
		RuntimeModel:  message.GetRuntimeModel(),
		Runtime:       message.GetRuntime(),
		Groups:        message.GetGroups(),
		Pinned:        message.GetPinned(),
		Preload:       message.GetPreload(),
		ExpectedBytes: message.GetExpectedBytes(),
		ExpectedBy:    Expectation(message.GetExpectedBy()),
		OnDisk:        message.OnDisk,
		Problem:       message.GetProblem(),
		DiskBytes:     message.GetDiskBytes(),
		State:         ServerState(message.GetState()),
		Listed:        message.GetListed(),
		Message:       message,
	}
}

// eventOf returns false for a kind of event that this package does not know.
func eventOf(response *pb.WatchResponse) (Event, bool) {
	revision := response.GetRevision()
	switch event := response.GetEvent().(type) {
	case *pb.WatchResponse_Server:
		return Event{EventChanged, revision, serverOf(event.Server)}, true
	case *pb.WatchResponse_Removed:
		return Event{EventRemoved, revision, serverOf(event.Removed)}, true
	case *pb.WatchResponse_Synced:
		return Event{Kind: EventSynced, Revision: revision}, true
	default:
		return Event{}, false
	}
}

func each[M, V any](messages []M, valueOf func(M) V) []V {
	values := make([]V, len(messages))
	for i, message := range messages {
		values[i] = valueOf(message)
	}
	return values
}
