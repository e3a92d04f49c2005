//! A script on a shard: its state of Lua, with everything that it shares between requests.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{SystemTime, UNIX_EPOCH};

use aws_lc_rs::signature;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use mlua::{
    Error, Function, HookTriggers, Lua, LuaOptions, LuaString, StdLib, Thread, Value, VmState,
};

use super::live::{Headers, Live, Part, Shared};
use crate::limits;

/// A loaded script.
#[derive(Debug)]
pub(super) struct Vm {
    pub(super) lua: Lua,
    pub(super) live: Shared,
    /// Makes the handle that a script gets.
    make_handle: Function,
    request: Option<Function>,
    response: Option<Function>,
    /// How many instructions are left until the script is stopped.
    budget: Rc<Cell<u32>>,
    messages: Cell<u64>,
}

/// How often instructions are counted.
const HOOK_INSTRUCTIONS: u32 = 10_000;

const PRELUDE: &str = include_str!("prelude.lua");

impl Vm {
    /// Loads a script, and executes what it says outside of functions.
    ///
    /// # Errors
    /// That of the script.
    pub(super) fn load(code: &str) -> Result<Self, Error> {
        let lua = Lua::new_with(StdLib::ALL_SAFE, LuaOptions::default())?;
        lua.set_memory_limit(limits::LUA_BYTES_MAX)?;
        let budget = Rc::new(Cell::new(limits::LUA_INSTRUCTIONS_MAX));
        let left = Rc::clone(&budget);
        let every = HookTriggers::new().every_nth_instruction(HOOK_INSTRUCTIONS);
        lua.set_global_hook(every, move |_, _| {
            let rest = left.get().saturating_sub(HOOK_INSTRUCTIONS);
            left.set(rest);
            if rest == 0 {
                Err(Error::runtime("the script runs too long"))
            } else {
                Ok(VmState::Continue)
            }
        })?;
        let helpers = (
            lua.create_function(log)?,
            lua.create_function(|lua, text: LuaString| {
                lua.create_string(STANDARD.encode(text.as_bytes()))
            })?,
            lua.create_function(timestamp)?,
            lua.create_function(verify)?,
        );
        let make_handle = lua.load(PRELUDE).set_name("=handle").call(helpers)?;
        lua.load(code).set_name("=script").exec()?;
        let function = |name: &str| lua.globals().get::<Option<Function>>(name).unwrap_or_default();
        Ok(Self {
            request: function("envoy_on_request"),
            response: function("envoy_on_response"),
            live: Rc::new(RefCell::new(Live::default())),
            make_handle,
            budget,
            messages: Cell::new(0),
            lua,
        })
    }

    /// A coroutine for a message with the handle that it gets, and the number of the message; none: the script
    /// has no function for it.
    pub(super) fn begin(&self, part: Part) -> Result<Option<(Thread, Value, u64)>, Error> {
        let function = match part {
            Part::Request => &self.request,
            Part::Response | Part::Trailers => &self.response,
        };
        let Some(function) = function else { return Ok(None) };
        let message = self.messages.get() + 1;
        self.messages.set(message);
        let headers = Headers { live: Rc::clone(&self.live), message, part };
        let handle = self.make_handle.call(self.lua.create_userdata(headers)?)?;
        Ok(Some((self.lua.create_thread(function.clone())?, handle, message)))
    }

    /// The script may run for as long as any again.
    pub(super) fn renew_budget(&self) {
        self.budget.set(limits::LUA_INSTRUCTIONS_MAX);
    }
}

fn log(_: &Lua, (level, text): (LuaString, LuaString)) -> Result<(), Error> {
    let text = text.to_string_lossy();
    match &*level.as_bytes() {
        b"trace" => tracing::trace!(target: "lua", "script log: {text}"),
        b"debug" => tracing::debug!(target: "lua", "script log: {text}"),
        b"info" => tracing::info!(target: "lua", "script log: {text}"),
        b"warn" => tracing::warn!(target: "lua", "script log: {text}"),
        _ => tracing::error!(target: "lua", "script log: {text}"),
    }
    Ok(())
}

/// Now as a number, and as text.
fn timestamp(_: &Lua, resolution: Option<i64>) -> Result<(f64, String), Error> {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    let (text, milliseconds) = match resolution {
        None | Some(0) => (since.as_millis().to_string(), since.as_secs_f64() * 1000.0),
        Some(1) => (since.as_micros().to_string(), since.as_secs_f64() * 1_000_000.0),
        Some(_) => {
            return Err(Error::runtime("timestamp format must be MILLISECOND or MICROSECOND."));
        }
    };
    Ok((milliseconds.floor(), text))
}

/// Whether a signature is right, and otherwise why not.
fn verify(
    _: &Lua,
    (hash, key, signed, text): (LuaString, LuaString, LuaString, LuaString),
) -> Result<(bool, Option<String>), Error> {
    let hash = hash.to_string_lossy();
    let algorithms: &[&dyn signature::VerificationAlgorithm] = match hash
        .to_ascii_lowercase()
        .as_str()
    {
        "sha1" => &[&signature::RSA_PKCS1_1024_8192_SHA1_FOR_LEGACY_USE_ONLY],
        "sha256" => &[&signature::RSA_PKCS1_2048_8192_SHA256, &signature::ECDSA_P256_SHA256_ASN1],
        "sha384" => &[&signature::RSA_PKCS1_2048_8192_SHA384, &signature::ECDSA_P384_SHA384_ASN1],
        "sha512" => &[&signature::RSA_PKCS1_2048_8192_SHA512, &signature::ECDSA_P521_SHA512_ASN1],
        _ => return Ok((false, Some(format!("{hash} is not supported.")))),
    };
    let is_right = algorithms.iter().any(|algorithm| {
        let key = signature::UnparsedPublicKey::new(*algorithm, key.as_bytes().to_vec());
        key.verify(&text.as_bytes(), &signed.as_bytes()).is_ok()
    });
    Ok((is_right, (!is_right).then(|| "Failed to verify digest.".to_owned())))
}
