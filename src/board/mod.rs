//! The board under the till: what its status LED has to say, how that looks, where the LED and the sensors are.

pub mod led;
pub mod pattern;
pub mod profile;
