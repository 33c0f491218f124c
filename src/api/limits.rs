//! Every limit of the API, in one place, but for those of the data itself: they are the model's and the store's.

use std::time::Duration;

/// The longest request body, in bytes.
pub(super) const BODY_BYTES_MAX: usize = 1024 * 1024;

/// How much of a longer one is read all the same, so that its client gets to read the refusal.
pub(super) const BODY_BYTES_READ_MAX: usize = 16 * BODY_BYTES_MAX;

/// How long a client may take to send a request's head, and a kept connection to be idle.
pub(super) const HEAD_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a client may take to send a request's body.
pub(super) const BODY_TIME_MAX: Duration = Duration::from_secs(10);

/// How long a client may leave an answer unread.
pub(super) const STALL_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a request waits for the store or the agent.
pub(super) const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long a read waits for others to end before it is turned away.
pub(super) const READ_WAIT_MAX: Duration = Duration::from_secs(5);

/// How long requests under way may take once the agent stops.
pub(super) const DRAIN_TIME_MAX: Duration = Duration::from_secs(2);

/// Between two comments on a quiet stream of changes.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(15);

/// Open connections. Streams and reads have shares of their own below; what is left over is there for writes.
pub(super) const CONNECTIONS_MAX: usize = 64;

/// Streams of changes.
pub(super) const STREAMS_MAX: usize = 16;

/// Reads under way, answers that are being sent included.
pub(super) const READS_MAX: usize = 24;

const _: () = assert!(STREAMS_MAX + READS_MAX + 16 <= CONNECTIONS_MAX, "at least 16 connections are left for writes");

/// Requests that an address may make in a row without the token that may do everything: a program that starts may read all at once.
pub(super) const REQUESTS_AT_ONCE_MAX: f64 = 500.0;

/// How many more it may make each second.
pub(super) const REQUESTS_PER_SECOND_MAX: f64 = 100.0;

/// Addresses that are told apart for that.
pub(super) const RATED_ADDRESSES_MAX: usize = 256;

/// Items of a list, where the client does not say.
pub(super) const LIST_DEFAULT: usize = 100;

/// Items of a list.
pub(super) const LIST_MAX: usize = 500;

/// About how many bytes of items a list answers before it says where to go on.
pub(super) const LIST_BYTES_MAX: usize = 1024 * 1024;

/// Changes read at once for a stream.
pub(super) const CHANGES_PER_READ: usize = 32;

/// Faults told of one request.
pub(super) const FAULTS_MAX: usize = 100;

/// A search text.
pub(super) const SEARCH_LEN_MAX: usize = 200;

/// Free fields of one product.
pub(super) const EXTRA_FIELDS_MAX: usize = 64;

/// All free fields of one request, in bytes of JSON.
pub(super) const EXTRA_BYTES_MAX: usize = 32 * 1024;

/// Log lines kept.
pub(super) const LOG_LINES_MAX: usize = 1000;

/// One log line, in bytes; the rest is cut off.
pub(super) const LOG_LINE_BYTES_MAX: usize = 1024;
