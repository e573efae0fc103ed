package poolservice

import (
	"time"

	pb "github.com/pool-service/pool-service/clients/go/poolservicev1"
)

// RunOrigin is how a process came to be. A value that this package does not know keeps its number.
type RunOrigin int32

// The origins of a process.
const (
	// OriginUnspecified: there is no process yet.
	OriginUnspecified = RunOrigin(pb.RunOrigin_RUN_ORIGIN_UNSPECIFIED)
	// OriginCold: it is a new process.
	OriginCold = RunOrigin(pb.RunOrigin_RUN_ORIGIN_COLD)
	// OriginStandby: it was a standby, which had imported everything.
	OriginStandby = RunOrigin(pb.RunOrigin_RUN_ORIGIN_STANDBY)
	// OriginAdopted: an earlier service started it.
	OriginAdopted = RunOrigin(pb.RunOrigin_RUN_ORIGIN_ADOPTED)
)

// String is the origin's name, such as "COLD", or its number.
func (o RunOrigin) String() string {
	return enumName(int32(o), pb.RunOrigin_name, "RUN_ORIGIN_")
}

// Description is all that the service knows about a model.
type Description struct {
	// Model is the name of the model, also if you named an alias.
	Model string
	// Aliases are other names that mean it.
	Aliases []string
	// Listed: the configuration lists it.
	Listed bool
	// Settings are those that its next server gets.
	Settings []Setting
	// Servers are its servers, the one that callers get first.
	Servers []Server
	// ExpectedBytes is the memory that its next server is expected to need at most; 0 if unknown.
	ExpectedBytes uint64
	// ExpectedBy is the source of ExpectedBytes.
	ExpectedBy Expectation
	// OnDisk is whether all files that it needs are on the service's machine; nil if unknown.
	OnDisk *bool
	// DiskBytes is the size of its weights on the service's machine.
	DiskBytes uint64
	// UsualLoad is how long earlier loads took; nil if unknown.
	UsualLoad *time.Duration
	// Problem says why it could not be started; empty if nothing is known to be wrong.
	Problem string
	// Runs are its last processes, oldest first, of the present service.
	Runs []Run
	// LastExit is how its last process ended, if it has no server; nil if unknown.
	LastExit *Exit
	// Holders are those who hold it, oldest first; they may be cut, see Holds.
	Holders []Holder
	// Holds is how many hold it.
	Holds uint32
	// Waiting are the calls that wait for it, oldest first; they may be cut, see WaitingCalls.
	Waiting []WaitingCall
	// WaitingCalls is how many calls wait for it.
	WaitingCalls uint32
	// QueueTime is when its server was queued, if it is; Servers has why it waits, and its place.
	QueueTime time.Time
	// NextToGo are the servers of all models that would be stopped for another model, the next
	// one first; they may be cut, see EvictionCandidates. How much a model needs can change the
	// choice.
	NextToGo []EvictionCandidate
	// EvictionPosition is the place of its own server among these, from 1; 0 if it is not there.
	EvictionPosition uint32
	// EvictionCandidates is how many servers could be stopped.
	EvictionCandidates uint32
	// KeptBecause says why its own server is not among these; empty if it is, or if there is none.
	KeptBecause string
	// CrashTimes are when its last processes died, if that was within the crash window.
	CrashTimes []time.Time
	// CrashLimit is how many crashes within the crash window are a crash loop.
	CrashLimit uint32
	// CrashWindow is the crash window.
	CrashWindow time.Duration
	// RetryTime is when it may be started again; zero if it may be now.
	RetryTime time.Time
	// FailureReason is the reason with which calls fail until RetryTime; empty if they wait.
	FailureReason string
	// FailureMessage is the message of that error.
	FailureMessage string
	// Decisions are the last decisions about it, oldest first.
	Decisions []Decision
	// Message is the received message, with fields of a newer service that this package does not
	// know.
	Message *pb.DescribeResponse
}

// Setting is one setting of a model's next server.
type Setting struct {
	// Key is its key in the configuration.
	Key string
	// Value is its value as text, cut if it is long; what is secret is left out.
	Value string
	// Source says where the value comes from.
	Source string
	// Running is the value that the present server has, if it is another one.
	Running string
}

// Run is one generation of a model, with the times of its stages. A time is zero if it has not
// come, or if it is not known.
type Run struct {
	// Generation counts the processes of the model.
	Generation uint64
	// Origin is how its process came to be.
	Origin RunOrigin
	// CreateTime is when it was requested.
	CreateTime time.Time
	// AdmitTime is when its turn in the queue came.
	AdmitTime time.Time
	// StartTime is when its process was started.
	StartTime time.Time
	// ReadyTime is when it became READY.
	ReadyTime time.Time
	// StopTime is when a stop of it began.
	StopTime time.Time
	// EndTime is when its process had ended.
	EndTime time.Time
	// Exit is how its process ended, without its last lines; nil if it has not.
	Exit *Exit
	// PeakBytes is the most memory that it took.
	PeakBytes uint64
	// Load is how long its load took, without the time for which the machine was suspended; nil if
	// it has not ended, or if it is not known.
	Load *time.Duration
}

// Holder is a stream that holds a model.
type Holder struct {
	// Label is the label that the caller gave; it may be empty.
	Label string
	// Since is when the hold began.
	Since time.Time
}

// WaitingCall is a call that waits for a model to be READY.
type WaitingCall struct {
	// Since is when it came.
	Since time.Time
	// Hold: it is a hold.
	Hold bool
	// Holder is the label of that hold; it may be empty.
	Holder string
	// Own: it is no call; the service itself wants the model, as it is pinned or preloaded.
	Own bool
}

// EvictionCandidate is a server that may be stopped for another model.
type EvictionCandidate struct {
	// Model is the name of its model.
	Model string
	// Generation is its generation.
	Generation uint64
	// Busy: it was busy when last checked; it is stopped only for a model that waits for long, and
	// once it is unused.
	Busy bool
	// FreedBytes is the memory that its end frees.
	FreedBytes uint64
	// RetentionSeconds is its retention value: the time that its next load would take, times the
	// weighed number of its recent uses. The lowest by the byte goes first.
	RetentionSeconds float64
	// ResideTime is the end of its grace period, before which others go; zero if the service did
	// not say.
	ResideTime time.Time
}

// Decision is a decision of the service about a server.
type Decision struct {
	// Time is when it was made.
	Time time.Time
	// Generation is the generation of the server.
	Generation uint64
	// Role is the role of the server.
	Role ServerRole
	// Before is its state before; StateUnspecified if it was not in the pool.
	Before ServerState
	// After is its state after; StateUnspecified if it is not in the pool. It is equal to Before if
	// only what it waits for has changed.
	After ServerState
	// Why says why, in words.
	Why string
	// Event is the event that led to it, by the name that it has in the service.
	Event string
	// Choice has the figures, if it is a start that fits or a choice of servers to stop; else nil.
	Choice *Choice
}

// Choice has the figures of a decision.
type Choice struct {
	// NeededBytes is the memory that the model needs.
	NeededBytes uint64
	// BudgetBytes is the memory budget; nil if there is no limit.
	BudgetBytes *uint64
	// ReservedBytes is the memory that the servers with a process are expected to need.
	ReservedBytes uint64
	// AvailableBytes is the memory that was available on the machine; nil if unknown.
	AvailableBytes *uint64
	// Chosen are the servers that are stopped for it; they may be cut.
	Chosen []EvictionCandidate
	// PassedOver are servers that stay, those with the lowest retention value first; they may be
	// cut.
	PassedOver []EvictionCandidate
}
