//! The board under the till. So far: what its status LED has to say.

pub mod led;
