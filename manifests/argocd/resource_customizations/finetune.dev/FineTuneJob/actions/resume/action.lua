-- Not nil: a file in Git that says `suspend: false` would be out of sync.
obj.spec.suspend = false
return obj
