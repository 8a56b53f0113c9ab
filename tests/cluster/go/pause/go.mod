// The first process of every pod: it holds the pod's namespaces and buries orphans.
module finetune.dev/cluster/pause

go 1.24.0
