# Arguments of `docker run`, one a line, as a Compose file that is merged over compose.yaml:
#
#   printf '%s\n' --shm-size 2g --gpus device=1 | awk -v device=gpu -f docker/run-args.awk
#
# `docker compose run` knows few of them and `docker compose up` none. With device=cpu, --gpus counts
# for nothing. What has no counterpart ends in a sentence and status 1.

BEGIN {
    split("--shm-size shm_size --ipc ipc --memory mem_limit -m mem_limit --memory-swap memswap_limit " \
          "--cpus cpus --cpuset-cpus cpuset --pids-limit pids_limit --hostname hostname -h hostname " \
          "--network network_mode --net network_mode --runtime runtime --pid pid --restart restart " \
          "--stop-timeout stop_grace_period", words, " ")
    for (i = 1; i in words; i += 2) scalar[words[i]] = words[i + 1]
    split("--env environment -e environment --env-file env_file --volume volumes -v volumes " \
          "--tmpfs tmpfs --device devices --add-host extra_hosts --dns dns " \
          "--security-opt security_opt --label labels -l labels", words, " ")
    for (i = 1; i in words; i += 2) list[words[i]] = words[i + 1]
    # What make's own commands decide.
    split("--rm -i -t -it -ti -d --interactive --tty --detach --init", words, " ")
    for (i in words) ignored[words[i]]
}

function refuse(text) {
    print "error: DOCKER_RUN_ARGS: " text > "/dev/stderr"
    failed = 1
    exit 1
}

# As YAML takes literally, but for Compose, which would put a variable in.
function quoted(text) {
    gsub(/'/, "''", text)
    gsub(/\$/, "$$", text)
    return "'" text "'"
}

function add(key, line) { if (!(key in lines)) keys[++count] = key; lines[key] = lines[key] line }

function take(flag, value,    part) {
    if (flag in scalar && scalar[flag] == "network_mode" && value != "none" && value != "bridge")
        refuse(flag " " value " would leave the stack's network, and ADDRESS and PORT mean nothing outside.")
    if (flag in scalar) {
        if (flag == "--stop-timeout") value = value "s"
        if (scalar[flag] in lines) delete lines[scalar[flag]]; else keys[++count] = scalar[flag]
        lines[scalar[flag]] = " " quoted(value) "\n"
    } else if (flag in list) {
        add(list[flag], (list[flag] in lines ? "" : "\n") "    - " quoted(value) "\n")
    } else if (flag == "--ulimit") {
        if (!match(value, "=")) refuse("--ulimit " value " is not name=value.")
        split(substr(value, RSTART + 1), part, ":")
        add("ulimits", ("ulimits" in lines ? "" : "\n") "    " substr(value, 1, RSTART - 1) \
            ": {soft: " part[1] ", hard: " (2 in part ? part[2] : part[1]) "}\n")
    } else if (flag == "--gpus") {
        gpus = value
    }
}

flag != "" { take(flag, $0); flag = ""; next }
$0 == "" { next }
/^--[a-z-]+=/ && ((name = substr($0, 1, index($0, "=") - 1)) in scalar || name in list || \
    name == "--ulimit" || name == "--gpus") { take(name, substr($0, index($0, "=") + 1)); next }
$0 in scalar || $0 in list || $0 == "--ulimit" || $0 == "--gpus" { flag = $0; next }
$0 in ignored { next }
/^-[a-z]./ && ((name = substr($0, 1, 2)) in scalar || name in list) { take(name, substr($0, 3)); next }
/^--(privileged|cap-add|group-add)(=|$)/ { refuse("the app runs without privileges, also with " $0 ".") }
$0 ~ /^(-u|--user)(=|$)/ { refuse("containers run as RUN_AS=uid:gid, not as " $0 " says.") }
$0 ~ /^(-p|--publish)(=|$)/ { refuse("the page is published by ADDRESS and PORT, not by " $0 ".") }
$0 ~ /^--name(=|$)/ { refuse("containers are named by CONTAINER_NAME, not by " $0 ".") }
{ refuse($0 " has no counterpart in Compose that is known here: put it into a Compose file of your own.") }

END {
    if (failed) exit 1
    if (flag != "") refuse(flag " lacks its value.")
    print "# Made from GPU_ARGS and DOCKER_RUN_ARGS by docker/run-args.awk."
    printf "x-args: &args"
    if (!count) print " {}"; else print ""
    for (i = 1; i <= count; i++) printf "  %s:%s", keys[i], lines[keys[i]]
    print "services:"
    print "  prefetch: *args"
    if (gpus == "" || device == "cpu") { print "  train: *args\n  webui: *args"; exit }
    gsub(/^["']|["']$/, "", gpus)
    if (sub(/^device=/, "", gpus)) { named = 1; ids = quoted(gpus); gsub(/,/, "', '", ids) }
    else if (gpus !~ /^(all|[0-9]+)$/) refuse("--gpus " gpus " is neither all, a number, nor device=….")
    for (i = 1; i <= 2; i++) {
        print "  " (i == 1 ? "train" : "webui") ":\n    <<: *args\n    deploy:\n      resources:\n" \
            "        reservations:\n          devices:\n            - driver: nvidia\n" \
            "              " (named ? "device_ids: [" ids "]" : "count: " gpus) "\n" \
            "              capabilities: [gpu]"
    }
}
