//! The HTTP forwarding core shared by ingress and node proxy: connections, pools, upgrades, limits
