//! How large anything on a link may be. A limit of one till is a promise of every other: they change with the protocol only.

/// The longest message, in bytes. A till that is offered more closes the link.
pub const MESSAGE_BYTES_MAX: usize = 1 << 20;

/// The longest Noise message (Noise specification, section 3), which is also the longest WebSocket frame of a link.
pub const NOISE_MESSAGE_BYTES_MAX: usize = 65_535;

/// What Noise adds to a plaintext: the Poly1305 tag.
pub const NOISE_TAG_BYTES: usize = 16;

/// The most of a message that one part can hold: a Noise message less the tag and the part's own mark.
pub const PART_BYTES_MAX: usize = NOISE_MESSAGE_BYTES_MAX - NOISE_TAG_BYTES - 1;

/// The most of a message that this version puts into one part. Smaller than it may be: the frame buffers of both tills grow
/// to the largest frame seen, and there are two of them on every link.
pub const PART_BYTES_SENT: usize = 16 * 1024 - NOISE_TAG_BYTES - 1;

/// The longest Hello, in bytes, fields of later versions included.
pub const HELLO_BYTES_MAX: usize = 4096;

/// The longest `posId` in a Hello, in bytes of UTF-8.
pub const POS_ID_BYTES_MAX: usize = 64;

/// The longest `posName` in a Hello, in bytes of UTF-8.
pub const POS_NAME_BYTES_MAX: usize = 128;

/// The longest program version in a Hello, in bytes of UTF-8.
pub const VERSION_BYTES_MAX: usize = 32;
