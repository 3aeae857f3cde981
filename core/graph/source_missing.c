/* SPDX-License-Identifier: Apache-2.0 */
/* source_missing.c: what a path may be that holds no model, told to the person who named it. */
#include <dirent.h>
#include <string.h>
#include <unistd.h>

#include "base/file.h"
#include "base/mem.h"
#include "graph/source_internal.h"

DpsStatus dps__source_no_model (const char *folder, DpsError *err)
{
    char *adapter = dps_path_join (folder, "adapter_config.json");
    DIR *dir = opendir (folder);
    const char *gguf = NULL;
    for (struct dirent *d; dir && !gguf && (d = readdir (dir));)
        if (strlen (d->d_name) > 5 && !strcmp (d->d_name + strlen (d->d_name) - 5, ".gguf"))
            gguf = d->d_name;
    if (adapter && dps_is_file (adapter))
        dps_fail (err, DPS_ERR_NOT_FOUND,
                  "%s: no config.json: not a Hugging Face model folder. Hint: it is an adapter: --model BASE --adapter it", folder);
    else if (gguf)
        dps_fail (err, DPS_ERR_NOT_FOUND, "%s: no config.json: not a Hugging Face model folder. Hint: it holds %.200s: name that file",
                  folder, gguf);
    else
        dps_fail (err, DPS_ERR_NOT_FOUND,
                  "%s: no config.json: not a Hugging Face model folder. Hint: name the folder that holds it, or a .gguf file", folder);
    dps_free (adapter);
    if (dir)
        closedir (dir);
    return DPS_ERR_NOT_FOUND;
}

DpsStatus dps__source_no_such (const char *path, DpsError *err)
{
    char folder[512];
    int relative = path[0] != '/' && getcwd (folder, sizeof folder);
    return dps_fail (err, DPS_ERR_NOT_FOUND,
                     "%s: no such file or folder%s%s. Expected a Hugging Face folder, a .gguf file or a checkpoint. Hint: nothing is "
                     "downloaded here; tools/fetch --list names what it brings",
                     path, relative ? " in " : "", relative ? folder : "");
}
