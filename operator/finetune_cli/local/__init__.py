"""`finetune run`: the stages of a FineTuneJob as processes of this machine.

What runs next, with which settings, and what its end means is the operator's core; what a stage is
given is what build/ puts into its Job. Here is what a cluster does around that, for one run: a
directory in place of the volume, a process in place of a pod, and a file in place of the status.
Nothing here prints, but by what it is handed.
"""
