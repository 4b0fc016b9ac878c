//! What the command table says about one command, and the words to say it with.
//!
//! Refuses to know how a command runs. Each enum's order is the order in which Redis names its values.

pub use super::id::CommandId;

/// One command, or one subcommand of a container.
#[derive(Debug)]
pub struct CommandSpec {
    /// Lower case; of a subcommand only its own word.
    pub name: &'static str,
    /// `name`, or `container|name`.
    pub full_name: &'static str,
    /// What runs.
    pub id: CommandId,
    /// How many words, the command's own included; at least so many if negative.
    pub arity: i8,
    /// What it is like to run it.
    pub flags: Set<Flag>,
    /// Its ACL categories.
    pub categories: Set<Category>,
    /// The words that may follow a container.
    pub subcommands: &'static [CommandSpec],
    /// Where its keys are.
    pub keys: &'static [KeySpec],
    /// The first key, the last key (from the end if negative) and the step, for clients that know no specs.
    pub key_range: (i8, i8, i8),
    /// Hints for proxies.
    pub tips: &'static [&'static str],
    /// What COMMAND DOCS tells.
    pub docs: Docs,
}

/// What COMMAND DOCS tells about a command.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are those of the reply")]
pub struct Docs {
    pub summary: &'static str,
    pub since: &'static str,
    pub group: Group,
    pub complexity: Option<&'static str>,
    /// Since when it is deprecated, and what replaces it.
    pub deprecated: Option<(&'static str, &'static str)>,
    /// Whether it is for the system's own use.
    pub syscmd: bool,
    /// A version and what it changed, each.
    pub history: &'static [(&'static str, &'static str)],
    pub arguments: &'static [Arg],
}

impl CommandSpec {
    pub(super) const fn new(
        full_name: &'static str,
        id: CommandId,
        arity: i8,
        group: Group,
        since: &'static str,
    ) -> Self {
        let docs = Docs {
            summary: "",
            since,
            group,
            complexity: None,
            deprecated: None,
            syscmd: false,
            history: &[],
            arguments: &[],
        };
        let flags = Set::<Flag>::of(&[]);
        Self {
            name: behind_bar(full_name),
            full_name,
            id,
            arity,
            flags,
            categories: implicit_categories(flags, Set::<Category>::of(&[])),
            subcommands: &[],
            keys: &[],
            key_range: (0, 0, 0),
            tips: &[],
            docs,
        }
    }

    pub(super) const fn summary(mut self, summary: &'static str) -> Self {
        self.docs.summary = summary;
        self
    }

    pub(super) const fn complexity(mut self, complexity: &'static str) -> Self {
        self.docs.complexity = Some(complexity);
        self
    }

    pub(super) const fn deprecated(mut self, since: &'static str, replaced_by: &'static str) -> Self {
        self.docs.deprecated = Some((since, replaced_by));
        self
    }

    pub(super) const fn syscmd(mut self) -> Self {
        self.docs.syscmd = true;
        self
    }

    pub(super) const fn history(mut self, history: &'static [(&'static str, &'static str)]) -> Self {
        self.docs.history = history;
        self
    }

    pub(super) const fn arguments(mut self, arguments: &'static [Arg]) -> Self {
        self.docs.arguments = arguments;
        self
    }

    pub(super) const fn flags(mut self, flags: &[Flag]) -> Self {
        self.flags = Set::<Flag>::of(flags);
        self.categories = implicit_categories(self.flags, Set::<Category>::of(&[]));
        self
    }

    /// The categories that do not follow from the flags; stands behind [`Self::flags`].
    pub(super) const fn categories(mut self, categories: &[Category]) -> Self {
        self.categories = implicit_categories(self.flags, Set::<Category>::of(categories));
        self
    }

    pub(super) const fn tips(mut self, tips: &'static [&'static str]) -> Self {
        self.tips = tips;
        self
    }

    pub(super) const fn subcommands(mut self, subcommands: &'static [CommandSpec]) -> Self {
        self.subcommands = subcommands;
        self
    }

    pub(super) const fn keys(mut self, keys: &'static [KeySpec]) -> Self {
        if let [KeySpec { begin, find: FindKeys::Range { last, step, .. }, .. }] = keys {
            self.key_range = (*begin, if *last < 0 { *last } else { *begin + *last }, *step);
        }
        self.keys = keys;
        self
    }

    /// Stands behind [`Self::keys`] where several specs make one range.
    pub(super) const fn range(mut self, first: i8, last: i8, step: i8) -> Self {
        self.key_range = (first, last, step);
        self
    }
}

/// The part of `name` behind its `|`, if it has one.
const fn behind_bar(name: &str) -> &str {
    let bytes = name.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        if bytes[at] == b'|' {
            return name.split_at(at + 1).1;
        }
        at += 1;
    }
    name
}

/// `explicit` and the categories that follow from the flags. Source: `setImplicitACLCategories`.
const fn implicit_categories(flags: Set<Flag>, explicit: Set<Category>) -> Set<Category> {
    let pairs = [
        (Flag::Write, Category::Write),
        (Flag::Readonly, Category::Read),
        (Flag::Admin, Category::Admin),
        (Flag::Admin, Category::Dangerous),
        (Flag::Pubsub, Category::Pubsub),
        (Flag::Blocking, Category::Blocking),
    ];
    let mut bits = explicit.0;
    let mut at = 0;
    while at < pairs.len() {
        if flags.0 & 1 << pairs[at].0 as u32 != 0 {
            bits |= 1 << pairs[at].1 as u32;
        }
        at += 1;
    }
    let fast = flags.0 & 1 << Flag::Fast as u32 != 0;
    let speed = if fast { Category::Fast } else { Category::Slow };
    Set(bits | 1 << speed as u32, core::marker::PhantomData)
}

/// Some of the values of an enum that is a [`Word`].
#[derive(Debug)]
pub struct Set<T>(u32, core::marker::PhantomData<T>);

impl<T> Clone for Set<T> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<T> Copy for Set<T> {}

/// An enum whose values have a name in replies.
pub trait Word: Copy + Sized + 'static {
    /// Every value, in order.
    const ALL: &'static [Self];
    /// As it stands in replies.
    fn word(self) -> &'static str;
    /// Its place in [`Word::ALL`].
    fn bit(self) -> u32;
}

impl<T: Word> Set<T> {
    /// Whether `value` is one of them.
    #[inline]
    #[must_use]
    pub fn has(self, value: T) -> bool {
        self.0 & 1 << value.bit() != 0
    }

    /// The values, in the order in which Redis names them.
    pub fn iter(self) -> impl Iterator<Item = T> {
        T::ALL.iter().copied().filter(move |&value| self.has(value))
    }

    /// How many they are.
    #[must_use]
    pub fn len(self) -> usize {
        self.0.count_ones() as usize
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(self) -> bool {
        self.0 == 0
    }
}

/// An enum, its words, and a const constructor for sets of it.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($value:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[allow(missing_docs, reason = "each value is the word of Redis beside it")]
        pub enum $name { $($value),+ }

        impl Word for $name {
            const ALL: &'static [Self] = &[$(Self::$value),+];
            fn word(self) -> &'static str {
                match self { $(Self::$value => $word),+ }
            }
            #[inline]
            fn bit(self) -> u32 {
                self as u32
            }
        }

        impl Set<$name> {
            /// The set of these values.
            #[must_use]
            pub const fn of(values: &[$name]) -> Self {
                let mut bits = 0;
                let mut at = 0;
                while at < values.len() {
                    bits |= 1 << values[at] as u32;
                    at += 1;
                }
                Self(bits, core::marker::PhantomData)
            }
        }
    };
}

words! {
    /// What a command is like to run. Source: `addReplyFlagsForCommand`.
    Flag {
        Write = "write",
        Readonly = "readonly",
        Denyoom = "denyoom",
        Admin = "admin",
        Pubsub = "pubsub",
        Noscript = "noscript",
        Blocking = "blocking",
        Loading = "loading",
        Stale = "stale",
        SkipMonitor = "skip_monitor",
        SkipSlowlog = "skip_slowlog",
        Fast = "fast",
        NoAuth = "no_auth",
        NoMandatoryKeys = "no_mandatory_keys",
        NoAsyncLoading = "no_async_loading",
        NoMulti = "no_multi",
        Movablekeys = "movablekeys",
        AllowBusy = "allow_busy",
    }
}

words! {
    /// ACL categories; replies put an `@` in front. Source: `ACLCommandCategories`.
    Category {
        Keyspace = "keyspace",
        Read = "read",
        Write = "write",
        Set = "set",
        Sortedset = "sortedset",
        List = "list",
        Hash = "hash",
        String = "string",
        Bitmap = "bitmap",
        Hyperloglog = "hyperloglog",
        Geo = "geo",
        Stream = "stream",
        Pubsub = "pubsub",
        Admin = "admin",
        Fast = "fast",
        Slow = "slow",
        Blocking = "blocking",
        Dangerous = "dangerous",
        Connection = "connection",
        Transaction = "transaction",
        Scripting = "scripting",
    }
}

words! {
    /// What a command does with a key. Source: `addReplyFlagsForKeyArgs`.
    KeyFlag {
        Ro = "RO",
        Rw = "RW",
        Ow = "OW",
        Rm = "RM",
        Access = "access",
        Update = "update",
        Insert = "insert",
        Delete = "delete",
        NotKey = "not_key",
        Incomplete = "incomplete",
        VariableFlags = "variable_flags",
    }
}

words! {
    /// How often an argument may be there. Source: `addReplyFlagsForArg`.
    ArgFlag {
        Optional = "optional",
        Multiple = "multiple",
        MultipleToken = "multiple_token",
    }
}

words! {
    /// What an argument is. Source: `ARG_TYPE_STR`.
    ArgType {
        String = "string",
        Integer = "integer",
        Double = "double",
        Key = "key",
        Pattern = "pattern",
        UnixTime = "unix-time",
        PureToken = "pure-token",
        Oneof = "oneof",
        Block = "block",
    }
}

words! {
    /// The chapter of the manual. Source: `COMMAND_GROUP_STR`.
    Group {
        Generic = "generic",
        String = "string",
        List = "list",
        Connection = "connection",
        Server = "server",
        Bitmap = "bitmap",
    }
}

/// Where some keys of a command are.
#[derive(Debug)]
pub struct KeySpec {
    /// The argument that the search begins at.
    pub begin: i8,
    /// How the keys lie from there.
    pub find: FindKeys,
    /// What happens to them.
    pub flags: Set<KeyFlag>,
    /// What the flags do not say.
    pub notes: Option<&'static str>,
}

/// How keys lie behind the beginning of a [`KeySpec`].
#[derive(Debug)]
pub enum FindKeys {
    /// Up to `last` arguments further, or up to the one so far from the end if negative.
    Range {
        /// The last key.
        last: i8,
        /// From one key to the next.
        step: i8,
        /// Which part of the rest is keys: 2 for a half. 0 and 1 for all.
        limit: i8,
    },
    /// A count is among the arguments.
    Keynum {
        /// Where the count is.
        count_at: i8,
        /// Where the first key is.
        first: i8,
        /// From one key to the next.
        step: i8,
    },
}

impl KeySpec {
    /// One key, at argument `begin`.
    pub(super) const fn at(begin: i8, flags: &[KeyFlag]) -> Self {
        let find = FindKeys::Range { last: 0, step: 1, limit: 0 };
        Self { begin, find, flags: Set::<KeyFlag>::of(flags), notes: None }
    }

    pub(super) const fn range(mut self, last: i8, step: i8, limit: i8) -> Self {
        self.find = FindKeys::Range { last, step, limit };
        self
    }

    pub(super) const fn keynum(mut self, count_at: i8, first: i8, step: i8) -> Self {
        self.find = FindKeys::Keynum { count_at, first, step };
        self
    }

    pub(super) const fn notes(mut self, notes: &'static str) -> Self {
        self.notes = Some(notes);
        self
    }
}

/// One argument, as COMMAND DOCS describes it.
#[derive(Debug)]
#[allow(missing_docs, reason = "the fields are those of the reply")]
pub struct Arg {
    pub name: &'static str,
    pub kind: ArgType,
    pub key_spec: Option<u8>,
    pub token: Option<&'static str>,
    pub since: Option<&'static str>,
    pub deprecated_since: Option<&'static str>,
    pub flags: Set<ArgFlag>,
    /// The alternatives of a `oneof`, the parts of a `block`.
    pub arguments: &'static [Arg],
}

impl Arg {
    pub(super) const fn new(name: &'static str, kind: ArgType) -> Self {
        let flags = Set::<ArgFlag>::of(&[]);
        Self {
            name,
            kind,
            key_spec: None,
            token: None,
            since: None,
            deprecated_since: None,
            flags,
            arguments: &[],
        }
    }

    pub(super) const fn key_spec(mut self, index: u8) -> Self {
        self.key_spec = Some(index);
        self
    }

    pub(super) const fn token(mut self, token: &'static str) -> Self {
        self.token = Some(token);
        self
    }

    pub(super) const fn since(mut self, since: &'static str) -> Self {
        self.since = Some(since);
        self
    }

    pub(super) const fn deprecated_since(mut self, since: &'static str) -> Self {
        self.deprecated_since = Some(since);
        self
    }

    pub(super) const fn optional(self) -> Self {
        self.flag(ArgFlag::Optional)
    }

    pub(super) const fn multiple(self) -> Self {
        self.flag(ArgFlag::Multiple)
    }

    const fn flag(mut self, flag: ArgFlag) -> Self {
        self.flags = Set(self.flags.0 | 1 << flag as u32, core::marker::PhantomData);
        self
    }

    pub(super) const fn of(mut self, arguments: &'static [Arg]) -> Self {
        self.arguments = arguments;
        self
    }
}
