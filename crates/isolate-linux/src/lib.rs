//! Processes under a shim: users, namespaces, cgroups, seccomp, Landlock; unsafe only in sys
