/** Conversion of the message of Describe. */

import { date, exit, nameOf, server } from "./convert.js";
import {
  RUN_ORIGINS,
  type Choice,
  type Decision,
  type Description,
  type EvictionCandidate,
  type Run,
  type Setting,
  type WaitingCall,
} from "./description.js";
import type { Duration } from "./generated/google/protobuf/duration.js";
import type * as pb from "./generated/pool_service/v1/pool_service.js";
import { EXPECTATIONS, SERVER_ROLES, SERVER_STATES } from "./types.js";

export function description(message: pb.DescribeResponse): Description {
  return {
    model: message.model,
    aliases: message.aliases,
    listed: message.listed,
    settings: message.settings.map(setting),
    servers: message.servers.map(server),
    expectedBytes: Number(message.expectedBytes),
    expectedBy: nameOf(EXPECTATIONS, message.expectedBy),
    onDisk: message.onDisk,
    diskBytes: Number(message.diskBytes),
    usualLoadMs: message.usualLoad && milliseconds(message.usualLoad),
    problem: message.problem,
    runs: message.runs.map(run),
    lastExit: message.lastExit && exit(message.lastExit),
    holders: message.holders.map(({ label, since }) => ({ label, since: date(since) })),
    holds: message.holds,
    waiting: message.waiting.map(waitingCall),
    waitingCalls: message.waitingCalls,
    queueTime: date(message.queueTime),
    nextToGo: message.nextToGo.map(candidate),
    evictionPosition: message.evictionPosition,
    evictionCandidates: message.evictionCandidates,
    keptBecause: message.keptBecause,
    crashTimes: message.crashTimes.map(date).filter((at) => at !== undefined),
    crashLimit: message.crashLimit,
    crashWindowMs: message.crashWindow === undefined ? 0 : milliseconds(message.crashWindow),
    retryTime: date(message.retryTime),
    failureReason: message.failureReason,
    failureMessage: message.failureMessage,
    decisions: message.decisions.map(decision),
    message,
  };
}

function setting({ key, value, source, running }: pb.Setting): Setting {
  return { key, value, source, running };
}

function run(message: pb.Run): Run {
  return {
    generation: Number(message.generation),
    origin: nameOf(RUN_ORIGINS, message.origin),
    createTime: date(message.createTime),
    admitTime: date(message.admitTime),
    startTime: date(message.startTime),
    readyTime: date(message.readyTime),
    stopTime: date(message.stopTime),
    endTime: date(message.endTime),
    exit: message.exit && exit(message.exit),
    peakBytes: Number(message.peakBytes),
    loadMs: message.load && milliseconds(message.load),
  };
}

function waitingCall({ since, hold, holder, own }: pb.WaitingCall): WaitingCall {
  return { since: date(since), hold, holder, own };
}

function candidate(message: pb.EvictionCandidate): EvictionCandidate {
  return {
    model: message.model,
    generation: Number(message.generation),
    busy: message.busy,
    freedBytes: Number(message.freedBytes),
    retentionSeconds: message.retentionSeconds,
    resideTime: date(message.resideTime),
  };
}

function decision(message: pb.Decision): Decision {
  return {
    time: date(message.time),
    generation: Number(message.generation),
    role: nameOf(SERVER_ROLES, message.role),
    before: nameOf(SERVER_STATES, message.before),
    after: nameOf(SERVER_STATES, message.after),
    why: message.why,
    event: message.event,
    choice: message.choice && choice(message.choice),
  };
}

function choice(message: pb.Choice): Choice {
  const { budgetBytes, availableBytes } = message;
  return {
    neededBytes: Number(message.neededBytes),
    budgetBytes: budgetBytes === undefined ? undefined : Number(budgetBytes),
    reservedBytes: Number(message.reservedBytes),
    availableBytes: availableBytes === undefined ? undefined : Number(availableBytes),
    chosen: message.chosen.map(candidate),
    passedOver: message.passedOver.map(candidate),
  };
}

function milliseconds({ seconds, nanos }: Duration): number {
  return Number(seconds) * 1000 + nanos / 1e6;
}
