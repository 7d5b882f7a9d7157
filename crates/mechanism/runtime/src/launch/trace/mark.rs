//! What a point of a trace says was finished, and why that is done at all: the one table of both.

/// Whether an actor itself did something, or stood by for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It worked.
    Works,
    /// It waited: the time is that of whoever it waited for.
    Waits,
}

/// Each line: variant, how the time was spent, the step's name, why it exists.
macro_rules! marks {
    ($($mark:ident $way:ident $name:literal $why:literal;)*) => {
        /// A kind of step.
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum Mark {
            $(#[doc = $why] $mark,)*
        }

        impl Mark {
            /// In the order of their numbers.
            pub(super) const ALL: &[Mark] = &[$(Mark::$mark),*];

            /// What the step is called.
            pub fn name(self) -> &'static str {
                match self { $(Mark::$mark => $name,)* }
            }

            /// Why the step exists, in a few words.
            pub fn why(self) -> &'static str {
                match self { $(Mark::$mark => $why,)* }
            }

            pub(super) fn way(self) -> Way {
                match self { $(Mark::$mark => Way::$way,)* }
            }
        }
    };
}

marks! {
    // Whoever launches.
    Start Works "start" "the clock starts with the first thing that the program does";
    ReadOnly Works "read-only file" "its own file is mounted read-only, out of the reach of the container's root (CVE-2019-5736)";
    Reexecuted Works "execute anew" "the program goes on from that mount: the kernel loads it a second time";
    Warm Works "memory" "the kernel gives what a launch will need in two calls, not by a hundred page faults";
    Arguments Works "arguments" "what was typed is read, and given its meaning";
    Bundle Works "bundle" "config.json is read and checked before anything is made";
    Name Works "name" "the container's directory is made and locked: whoever makes it has the name";
    Container Works "container" "its state is read, and the kernel asked whether that still holds";
    Plan Works "plan" "the specification becomes a list of steps: what is wrong with it shows before anything is touched";
    Cgroups Works "cgroups" "groups are made, and limited before anybody is in them";
    Group Works "group" "the container's group is opened for one more process";
    State Works "state" "what later commands need to know, and whoever finds the remains of a killed one";
    Sources Works "sources" "the root and bind sources are opened where their paths mean what the caller meant";
    Streams Works "streams" "standard streams or a terminal, made before there is somebody to use them";
    Gate Works "gate socket" "where the container waits for start when its creator has gone";
    PrepareClone Works "prepare clone" "arguments, environment and filter are made ready, so that the child computes little";
    Clone Works "clone" "one call makes the child with its new namespaces, in its cgroup2 group";
    CloneThrough Waits "clone" "waits for an intermediate, which joins namespaces that nobody comes back from";
    IdMaps Works "id maps" "only somebody outside may write the maps of a new user namespace";
    Resctrl Works "resctrl" "cache and memory bandwidth are given to a process, so that there must be one";
    Network Works "network" "interfaces, addresses, routes and ports, while the child mounts";
    Hooks Works "hooks" "programs of the caller's that must run before the root is changed";
    Ready Waits "wait: ready" "until the child stands at the gate: whatever fails before is told here";
    Handover Works "hand over" "terminal, descriptors and pid file: there for the caller before the program runs";
    Running Waits "wait: program runs" "execve: the kernel loads the program and lets go of what the child had, last of the status channel, whose end tells";
    GateOpened Waits "open the gate" "the waiting child hears go, and from its user to execve does the rest";
    Poststart Works "poststart" "hooks that want the program to run, and the state's last change";

    // The engine.
    Engine Works "engine" "the database of images and containers is opened";
    Image Works "image" "it is looked up, and pulled if it is not here";
    Create Works "create" "id, name and address are reserved, the upper directory and config.json made";
    Lock Works "lock" "one starter at a time, and proof that nothing of a last run is left";
    Root Works "root" "the layers are mounted as one overlay, seen by nobody yet; new volumes are filled";
    Etc Works "files of /etc" "the container's own hosts, hostname and resolv.conf; its user is looked up";
    Ports Works "ports" "published ports are reserved: one that is in use is a failure before there is a container";
    Launcher Waits "wait: launcher" "the client may die from here on: its clone launches, and becomes the supervisor";
    Attach Works "attach socket" "where clients find the supervisor; there before the container is";

    // Clones, of which the child is one.
    Born Works "born" "from the clone on: page tables are copied, a processor is waited for";
    JoinCgroups Works "join cgroups" "one that moves itself does not wait for a grace period of the kernel's";
    Namespaces Works "namespaces" "the cgroup namespace once it stands in its groups, and those given by a path";
    JoinContainer Works "join container" "its namespaces, and nothing of the host left open, before it can be seen inside";
    UserNamespace Works "user namespace" "it becomes root there once its maps are written";

    // The plan's steps.
    OomScoreAdj Works "oom-score-adj" "a file of its own in /proc, writable until the user changes";
    IsolateMounts Works "isolate mounts" "nothing that is mounted from here on shall reach the host";
    AttachRoot Works "attach root" "from here on, paths are resolved beneath the container's root";
    Rendezvous Waits "wait: hooks" "prestart and createRuntime see the mounts, and the root not yet changed";
    ContainerHooks Works "createContainer" "programs of the host's, in the namespaces of the container";
    EnterRoot Works "enter root" "pivot_root: the container's root becomes /";
    Mount Works "mount" "made detached and moved into place, so that no path inside can lead it astray";
    Devices Works "devices" "nodes of /dev; bound from the host where they may not be made";
    Console Works "console" "/dev/console is the terminal";
    DetachHost Works "detach host" "the host's root goes, and with it every way back";
    WorkingDirectory Works "working directory" "made if it is missing, beneath the root";
    Hostname Works "host name" "the UTS namespace begins with a copy of the host's";
    Domainname Works "domain name" "the UTS namespace begins with a copy of the host's";
    Sysctls Works "sysctls" "kernel parameters of its own namespaces";
    ReadonlyPaths Works "read-only paths" "parts of /proc and /sys that root inside could change the host by";
    MaskedPaths Works "masked paths" "parts of /proc and /sys that tell too much of the host";
    ReadonlyRoot Works "read-only root" "once everything is made in it";
    RootPropagation Works "root propagation" "pivot_root takes no shared root, so that it comes after";
    PropagationBelowRoot Works "propagation" "what is mounted below the root is shared as the specification says";
    Loopback Works "loopback" "a new network namespace begins with it down";
    SealMounts Works "read-only mounts" "once everything below them is made";

    // To the program.
    Settle Works "streams, attributes" "session, streams, keyring, scheduling; the command is looked for while its lack can be told";
    AtGate Works "let go" "what was handed over for the steps is closed";
    GateHeard Waits "wait: go" "nothing of the program's runs before whoever started it says so";
    Descriptors Works "descriptors" "nothing that was open here may be reached from inside (CVE-2024-21626); limits";
    Identity Works "user, capabilities" "in the kernel's order: groups, user, capabilities, and then the parent-death signal";
    Filter Works "seccomp filter" "last, so that it meets none of the calls above";
    StartHooks Works "startContainer" "programs of the image's own, with the rights of the program and no more";
}
