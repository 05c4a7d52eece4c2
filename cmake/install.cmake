# What `cmake --install` puts where.  Everything finds its neighbours from its own place, so the tree may be moved.

include(CMakePackageConfigHelpers)

set(hshm_cmake_dir "${CMAKE_INSTALL_LIBDIR}/cmake/hshm")

# hermes_shm is the guide's interface, in C++; hshm/mpi.h comes with its library.
install(DIRECTORY include/hshm include/hermes_shm DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}"
    FILES_MATCHING PATTERN "*.h" PATTERN "*.hpp" PATTERN mpi.h EXCLUDE)

set(libraries)
if(HSHM_BUILD_SHARED)
    list(APPEND libraries hshm_shared)
endif()
if(HSHM_BUILD_STATIC)
    list(APPEND libraries hshm_static)
endif()
install(TARGETS ${libraries}
    EXPORT hshmTargets
    LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
    INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
if(HSHM_BUILD_PRELOAD)
    # Not for linking: programs name the file.
    install(TARGETS hshm_preload LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}")
endif()
if(HSHM_WITH_MPI)
    install(FILES include/hshm/mpi.h DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}/hshm")
    set(mpi_libraries ${libraries})
    list(TRANSFORM mpi_libraries REPLACE "^hshm_" "hshm_mpi_")
    install(TARGETS ${mpi_libraries}
        EXPORT hshmMpiTargets # apart: whoever does not ask for the component needs no MPI
        LIBRARY DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        ARCHIVE DESTINATION "${CMAKE_INSTALL_LIBDIR}"
        INCLUDES DESTINATION "${CMAKE_INSTALL_INCLUDEDIR}")
    install(EXPORT hshmMpiTargets NAMESPACE hshm:: DESTINATION "${hshm_cmake_dir}")
endif()
install(EXPORT hshmTargets NAMESPACE hshm:: DESTINATION "${hshm_cmake_dir}")

# Until 1.0 a minor version may break programs; from then on only a major one.
if(PROJECT_VERSION_MAJOR EQUAL 0)
    set(compatibility SameMinorVersion)
else()
    set(compatibility SameMajorVersion)
endif()
if(HSHM_DEFAULT_STATIC OR NOT HSHM_BUILD_SHARED)
    set(HSHM_DEFAULT_TARGET hshm_static)
else()
    set(HSHM_DEFAULT_TARGET hshm_shared)
endif()
string(REPLACE hshm_ hshm_mpi_ HSHM_DEFAULT_MPI_TARGET ${HSHM_DEFAULT_TARGET})
configure_package_config_file(cmake/hshmConfig.cmake.in "${CMAKE_CURRENT_BINARY_DIR}/hshmConfig.cmake"
    INSTALL_DESTINATION "${hshm_cmake_dir}")
write_basic_package_version_file("${CMAKE_CURRENT_BINARY_DIR}/hshmConfigVersion.cmake" COMPATIBILITY ${compatibility})
install(FILES
    "${CMAKE_CURRENT_BINARY_DIR}/hshmConfig.cmake"
    "${CMAKE_CURRENT_BINARY_DIR}/hshmConfigVersion.cmake"
    DESTINATION "${hshm_cmake_dir}")

# Directories that were given as absolute paths stay so; the others hang on the prefix, found from the .pc file's place.
file(RELATIVE_PATH HSHM_PC_PREFIX "${CMAKE_INSTALL_FULL_LIBDIR}/pkgconfig" "${CMAKE_INSTALL_PREFIX}")
string(REGEX REPLACE "/$" "" HSHM_PC_PREFIX "${HSHM_PC_PREFIX}")
set(HSHM_PC_PREFIX "\${pcfiledir}/${HSHM_PC_PREFIX}")
foreach(kind LIBDIR INCLUDEDIR)
    if(IS_ABSOLUTE "${CMAKE_INSTALL_${kind}}")
        set(HSHM_PC_${kind} "${CMAKE_INSTALL_${kind}}")
    else()
        set(HSHM_PC_${kind} "\${prefix}/${CMAKE_INSTALL_${kind}}")
    endif()
endforeach()
if(IS_ABSOLUTE "${CMAKE_INSTALL_LIBDIR}")
    set(HSHM_PC_PREFIX "${CMAKE_INSTALL_PREFIX}")
endif()
configure_file(cmake/hshm.pc.in "${CMAKE_CURRENT_BINARY_DIR}/hshm.pc" @ONLY)
install(FILES "${CMAKE_CURRENT_BINARY_DIR}/hshm.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
if(HSHM_WITH_MPI)
    configure_file(cmake/hshm-mpi.pc.in "${CMAKE_CURRENT_BINARY_DIR}/hshm-mpi.pc" @ONLY)
    install(FILES "${CMAKE_CURRENT_BINARY_DIR}/hshm-mpi.pc" DESTINATION "${CMAKE_INSTALL_LIBDIR}/pkgconfig")
endif()

foreach(section 1 3 5 7)
    file(GLOB pages CONFIGURE_DEPENDS "${CMAKE_CURRENT_SOURCE_DIR}/docs/man/*.${section}")
    if(pages)
        install(FILES ${pages} DESTINATION "${CMAKE_INSTALL_MANDIR}/man${section}")
    endif()
endforeach()

install(FILES LICENSE README.md DESTINATION "${CMAKE_INSTALL_DOCDIR}")
